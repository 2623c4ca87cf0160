"""Discovery: every file in trainers/ and datasets/ is imported, and so registers itself.

Files from elsewhere (`--plugin`) and files that were written for upstream Dassl and the CoOp
code base work the same.
"""

import ast
import importlib
import importlib.util
import pkgutil
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.modeling import BACKBONE_REGISTRY, HEAD_REGISTRY, NETWORK_REGISTRY

FOLDERS = ("trainers", "datasets")
REGISTRIES = (
    *(TRAINER_REGISTRY, DATASET_REGISTRY, EVALUATOR_REGISTRY),
    *(BACKBONE_REGISTRY, HEAD_REGISTRY, NETWORK_REGISTRY),
)


def import_plugins(files: Iterable[str | Path] = ()) -> list[ModuleType]:
    """Import all modules of the plugin folders, in the order of their names, then `files`.

    Raises FileNotFoundError or ValueError that names the file and says what is wrong with it.
    """
    modules = []
    for folder in FOLDERS:
        package = importlib.import_module(folder)
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
            name = f"{folder}.{info.name}"
            file = Path(getattr(info.module_finder, "path", folder), f"{info.name}.py")
            modules.append(told(file, importlib.import_module, name))
    modules += [load_file(Path(file)) for file in files]
    _give_clip_its_folder()
    return modules


def load_file(file: Path) -> ModuleType:
    """Import a plugin from anywhere, as if it lay in trainers/ or datasets/.

    It is a member of datasets/ if it imports the registry of data sets, so that CoOp's
    `from .oxford_pets import OxfordPets` finds ours.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"--plugin {file}: there is no such file; give the path of a Python file"
        )
    if file.suffix != ".py":
        raise ValueError(f"--plugin {file}: a plugin must be a Python file, *.py")
    folder = told(file, _folder_of, file)
    name = f"{folder}.{file.stem}_{zlib.crc32(str(file.resolve()).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    before = _registered()
    module = told(file, _execute, name, file)
    if _registered() == before and not hasattr(module, "add_config"):
        del sys.modules[name]
        raise ValueError(
            f"--plugin {file} registers nothing: put @TRAINER_REGISTRY.register() above a trainer "
            "or @DATASET_REGISTRY.register() above a data set (or give it an add_config)"
        )
    return module


def _registered() -> list[list[str]]:
    return [registry.registered_names() for registry in REGISTRIES]


def _folder_of(file: Path) -> str:
    nodes = [n for n in ast.walk(ast.parse(file.read_bytes())) if isinstance(n, ast.ImportFrom)]
    names = {alias.name for node in nodes for alias in node.names}
    return "datasets" if "DATASET_REGISTRY" in names else "trainers"


def _execute(name: str, file: Path) -> ModuleType:
    importlib.import_module(name.partition(".")[0])
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def told(file: Path, function: Callable, *args: object) -> Any:
    """What `function` gives; ValueError naming the plugin's file and line if it fails there."""
    try:
        return function(*args)
    except Exception as error:  # a plugin may do anything
        line, trace = getattr(error, "lineno", None), error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(file):
                line = trace.tb_lineno
            trace = trace.tb_next
        where = f"{file}, line {line}" if line else file
        raise ValueError(
            f"the plugin {where} cannot be used: {type(error).__name__}: {error}\n"
            "(--debug shows the whole traceback)"
        ) from error


def _give_clip_its_folder() -> None:
    """CoOp's plugins call `clip._download(url)`: their copy of CLIP has a default folder for
    the weights, the package on PyPI wants to be told."""
    clip = sys.modules.get("clip.clip")
    if clip is not None and not clip._download.__defaults__:
        clip._download.__defaults__ = (str(Path("~/.cache/clip").expanduser()),)
