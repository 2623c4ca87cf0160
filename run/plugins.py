"""Discovery: every file in trainers/ and datasets/ is imported, and so registers itself.

Files from elsewhere (`--plugin`) and files that were written for upstream Dassl and the CoOp
code base work the same.
"""

import ast
import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.utils import check_availability
from run import siblings
from run.plugin_errors import plugin_errors

FOLDERS = ("trainers", "datasets")
REGISTRIES = (TRAINER_REGISTRY, DATASET_REGISTRY, EVALUATOR_REGISTRY)


_left_out: dict[Path, str] = {}  # files that build on one that was replaced, and the reason
_taken: dict[str, list[str]] = {}  # names that a plugin took from others, by its module
_from_plugins: list[Any] = []  # what plugins registered


def import_plugins(
    files: Iterable[str | Path] = (), paths: Iterable[str | Path] = ()
) -> list[ModuleType]:
    """Import all modules of the plugin folders, in the order of their names, then `files`.

    paths: folders that imports of `files` look into first

    Raises FileNotFoundError or ValueError that names the file and says what is wrong with it.
    """
    _left_out.clear()
    packages = [
        importlib.import_module(folder) for folder in FOLDERS if not _is_hugging_faces(folder)
    ]
    found = [_import_member(name, file) for name, file in _members(packages)]
    paths = list(paths)
    if paths:
        siblings.put_first(paths, packages)
    found += [load_file(Path(file)) for file in files]
    _give_clip_its_folder()
    return [module for module in found if module is not None]


def _is_hugging_faces(folder: str) -> bool:
    """Whether `datasets` is the package of Hugging Face, in a program that uses ours as a library.

    Such a program can predict, which takes methods alone. Commands find ours: see `run.command`.
    """
    spec = importlib.util.find_spec(folder)
    there = Path(str(spec.origin)).parent if spec else Path(folder)
    return folder == "datasets" and not (there / "few_shot.py").is_file()


def _members(packages: list[ModuleType]) -> Iterator[tuple[str, Path]]:
    """The plugins in the folders, each with the file that is read."""
    for package in packages:
        places = siblings.searched(package)
        for info in sorted(pkgutil.iter_modules(places), key=lambda info: info.name):
            file = f"{info.name}/__init__.py" if info.ispkg else f"{info.name}.py"
            folder = getattr(info.module_finder, "path", package.__name__)
            yield f"{package.__name__}.{info.name}", Path(folder, file)


def _import_member(name: str, file: Path) -> ModuleType | None:
    """A file in our folders; None for one that builds on a file that another stands in for."""
    with plugin_errors(file):
        try:
            return importlib.import_module(name)
        except ImportError as failed:
            if (failed.name or "").partition(".")[0] not in FOLDERS:
                raise
            error, missing = failed, str(failed.name).replace(".", "/")
    parent = error.path or f"{missing}.py, which is not there"
    _left_out[file] = (
        f"{file} cannot be used ({error}): it builds on {parent}. Put back the file of that "
        "name that came with this project, and give yours as --plugin; all that does not "
        "build on it goes on without"
    )
    return None


def check_registered(registry: Any, name: str, what: str) -> None:
    """ValueError for a name that nothing has; it says so if a file with it was left out."""
    known = registry.registered_names()
    for file, reason in _left_out.items():
        its_class = rb"^class %s\b" % re.escape(name).encode()
        if name not in known and re.search(its_class, file.read_bytes(), re.M):
            raise ValueError(f"no {what} {name!r}: {reason}")
    check_availability(name, known, what=what)


def load_file(given: Path) -> ModuleType:
    """Import a plugin from anywhere, as if it lay in trainers/ or datasets/.

    It is a member of datasets/ if it imports the registry of data sets, so that CoOp's
    `from .oxford_pets import OxfordPets` finds ours.
    """
    if not given.is_file():
        raise FileNotFoundError(
            f"--plugin {given}: there is no such file; give the path of a Python file"
        )
    if given.suffix != ".py":
        raise ValueError(f"--plugin {given}: a plugin must be a Python file, *.py")
    with plugin_errors(given):
        package = importlib.import_module(_folder_of(given))
    file = given.resolve()
    name = module_name(package.__name__, file)
    if (known := _loaded(package, file)) is not None:
        return sys.modules.setdefault(name, known)
    before = _registered()
    with ExitStack() as stack:
        for registry in REGISTRIES:
            names = registry.registered_names()
            ours = [n for n in names if registry.get(n) not in _from_plugins]
            stack.enter_context(registry.replacing(ours))
        stack.enter_context(siblings.own_modules_first(package, file.parent))
        with plugin_errors(given):
            module = _execute(name, file)
        changed = _new_since(before)
        if not changed and not hasattr(module, "add_config"):
            _forget(name, file)
            raise ValueError(
                f"--plugin {given} registers nothing: put @TRAINER_REGISTRY.register() above a "
                "trainer or @DATASET_REGISTRY.register() above a data set (or give it an "
                "add_config)"
            )
    _from_plugins.extend(changed.values())
    _taken[name] = sorted(n for known in before for n in known if n in changed)
    return module


def _loaded(package: ModuleType, file: Path) -> ModuleType | None:
    """The module of a file that was imported already: lying in our folder, given before, or by
    another file beside it."""
    if file.parent in (Path(place).resolve() for place in siblings.searched(package)):
        if file in _left_out:
            raise ValueError(_left_out[file])
        with plugin_errors(file):
            return importlib.import_module(_alias(package.__name__, file))
    given = sys.modules.get(module_name(package.__name__, file))
    return given or siblings.own_module(package.__name__, file)


def module_name(package: str, file: Path) -> str:
    """What the module of a plugin is called, which no other file's is."""
    return f"{package}.{file.stem}_{zlib.crc32(str(file).encode()):08x}"


def described(files: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Of each loaded plugin: its path, its SHA-256, and the names that it took from ours."""
    found = []
    for file in map(Path, files):
        names = [module_name(package, file.resolve()) for package in FOLDERS]
        replaces = [taken for name in names for taken in _taken.get(name, ())]
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        found.append({"file": str(file), "sha256": digest, "replaces": replaces})
    return found


def _registered() -> list[dict[str, Any]]:
    return [{n: registry.get(n) for n in registry.registered_names()} for registry in REGISTRIES]


def _new_since(before: list[dict[str, Any]]) -> dict[str, Any]:
    """What was registered since, by name."""
    pairs = zip(before, _registered(), strict=True)
    return {n: obj for old, now in pairs for n, obj in now.items() if old.get(n) is not obj}


def _folder_of(file: Path) -> str:
    nodes = [n for n in ast.walk(ast.parse(file.read_bytes())) if isinstance(n, ast.ImportFrom)]
    names = {alias.name for node in nodes for alias in node.names}
    return "datasets" if "DATASET_REGISTRY" in names else "trainers"


def _execute(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader  # of a file *.py
    module = importlib.util.module_from_spec(spec)
    # and by the name by which files beside it import it
    sys.modules[name] = sys.modules[_alias(name, file)] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _forget(name, file)
        raise
    return module


def _alias(name: str, file: Path) -> str:
    return f"{name.partition('.')[0]}.{file.stem}"


def _forget(name: str, file: Path) -> None:
    for known in (name, _alias(name, file)):
        sys.modules.pop(known, None)


def _give_clip_its_folder() -> None:
    """CoOp's plugins call `clip._download(url)`: their copy of CLIP has a default folder for
    the weights, the package on PyPI wants to be told."""
    download = getattr(sys.modules.get("clip.clip"), "_download", None)
    if download is not None and not download.__defaults__:
        download.__defaults__ = (str(Path("~/.cache/clip").expanduser()),)
