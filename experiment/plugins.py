"""Discovery: every file in trainers/ and datasets/ is imported, and so registers itself."""

import importlib
import pkgutil
from types import ModuleType

FOLDERS = ("trainers", "datasets")


def import_plugins() -> list[ModuleType]:
    """Import all modules of the plugin folders, in the order of their names."""
    modules = []
    for folder in FOLDERS:
        package = importlib.import_module(folder)
        names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
        modules += [importlib.import_module(f"{folder}.{name}") for name in names]
    return modules
