"""The package `clip` (clip-anytorch), held from its first import on.

Code from elsewhere may bring a changed `clip` of its own and import that by the same name.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from clip import clip, model, simple_tokenizer

__all__ = ["clip", "model", "simple_tokenizer"]

try:
    _installed = Path(str(distribution("clip-anytorch").locate_file("clip"))).resolve()
except PackageNotFoundError:  # another distribution of the same code
    _installed = Path(clip.__file__).resolve().parent
if Path(clip.__file__).resolve().parent != _installed:
    raise ValueError(
        f"the package `clip` is {Path(clip.__file__).parent}, but this trainer needs that of "
        f"clip-anytorch in {_installed}: take it off PYTHONPATH and out of this folder, and give "
        "the folder that holds it to plugins that need it as --plugin-path"
    )
