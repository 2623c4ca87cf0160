"""Whose modules the imports of a plugin find: its own first, while ours keep finding ours.

A plugin lies in a folder of its code base, and says `from .base import ...` or `from clip import
clip` as it does there. Names that we have too are lent to it while it is imported.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

Modules = dict[str, ModuleType]

_joined: dict[str, list[str]] = {}  # folders at the end of a package's path, by package
_own: dict[tuple[str, Path], Modules] = {}  # what a folder's plugins found there


def searched(package: ModuleType) -> list[str]:
    """The folders of a package in which every file is a plugin."""
    return [place for place in package.__path__ if place not in _joined.get(package.__name__, ())]


def own_module(package: str, file: Path) -> ModuleType | None:
    """The module of a file that another file in its folder has imported."""
    module = _own.get((package, file.parent), {}).get(f"{package}.{file.stem}")
    return module if module and Path(module.__file__ or "") == file else None


@contextmanager
def own_modules_first(package: ModuleType, folder: Path) -> Iterator[None]:
    """Within, members of `package` are those in `folder`, and ours where it has none; after it
    ours again, and those of the folder where we have none."""
    stems = {info.name for info in pkgutil.iter_modules([str(folder)])}
    lent = _take_out(package, stems)
    _put_in(package, _own.get((package.__name__, folder), {}))
    package.__path__.insert(0, str(folder))
    try:
        yield
    finally:
        package.__path__.remove(str(folder))
        own = _take_out(package, stems)
        _own[package.__name__, folder] = own
        _put_in(package, {**own, **lent})
        join(package, folder)


def join(package: ModuleType, folder: Path) -> None:
    """Let members of `package` that we do not have be found in `folder`, also later."""
    joined = _joined.setdefault(package.__name__, [])
    if str(folder) not in package.__path__:
        package.__path__.append(str(folder))
        joined.append(str(folder))


def _take_out(package: ModuleType, stems: set[str]) -> Modules:
    """Forget the imported members of these names, and theirs; they are returned."""
    prefix = f"{package.__name__}."
    found = {
        name: module
        for name, module in sys.modules.items()
        if name.startswith(prefix) and name.removeprefix(prefix).partition(".")[0] in stems
    }
    for name in found:
        del sys.modules[name]
    for stem in stems:
        vars(package).pop(stem, None)
    return found


def _put_in(package: ModuleType, modules: Modules) -> None:
    sys.modules.update(modules)
    for name, module in modules.items():
        parent, _, stem = name.rpartition(".")
        if parent == package.__name__:
            setattr(package, stem, module)


def put_first(folders: Iterable[str | Path], packages: Iterable[ModuleType]) -> None:
    """Let imports look into `folders` before all else, in their order (`--plugin-path`).

    What is imported already stays: our packages, whatever is called like them there. Members of
    `packages` that we lack are found in folders of that name, and a `clip` there is the one that
    plugins get; `frozen_clip` keeps its own.

    Raises FileNotFoundError for a folder that is not there.
    """
    places = [Path(folder).expanduser().resolve() for folder in folders]
    for place, given in zip(places, folders, strict=True):
        if not place.is_dir():
            raise FileNotFoundError(
                f"--plugin-path {given}: there is no such folder; give the one that `import` is "
                "to look into, such as the top folder of a code base"
            )
    brings_clip = any(info.name == "clip" for info in pkgutil.iter_modules(map(str, places)))
    if brings_clip:  # ours is held before theirs is found
        import frozen_clip.openai  # noqa: F401  # late: it takes time, and few need it
    sys.path[:] = [*map(str, places), *(p for p in sys.path if p not in map(str, places))]
    for place in places:
        for package in packages:
            if (place / package.__name__).is_dir():
                join(package, place / package.__name__)
    importlib.invalidate_caches()
    if brings_clip:
        _make_way_for_clip(places)


def _make_way_for_clip(places: list[Path]) -> None:
    """Forget the package `clip`, which `frozen_clip` holds, unless it is theirs already."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "clip"]:
        file = Path(sys.modules[name].__file__ or "").resolve()
        if not any(place in file.parents for place in places):
            del sys.modules[name]
