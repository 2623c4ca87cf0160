"""The package `clip` (clip-anytorch), held from its first import on.

Code from elsewhere may bring a changed `clip` of its own and import that by the same name.
"""

import importlib.util
import warnings
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def _check_place() -> None:
    """ValueError where another `clip` comes before the one that was installed."""
    try:
        installed = Path(str(distribution("clip-anytorch").locate_file("clip"))).resolve()
    except PackageNotFoundError:  # another distribution of the same code
        return
    spec = importlib.util.find_spec("clip")
    found = Path(spec.origin).resolve().parent if spec and spec.origin else None
    if found != installed:
        raise ValueError(
            f"the package `clip` that Python finds is {found}, and what is asked for needs that of "
            f"clip-anytorch, {installed}: take the other off PYTHONPATH and out of this folder, "
            "and give the folder that holds it as --plugin-path, for plugins that need it"
        )


_check_place()

with warnings.catch_warnings():
    # It imports pkg_resources, which warns; nothing that a user could do about.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from clip import clip, model, simple_tokenizer

__all__ = ["clip", "model", "simple_tokenizer"]
