"""Names to classes or functions: how trainers, data sets and the like are found by a config."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from .tools import check_availability, suggestion


class RegistryError(KeyError, ValueError):
    """A name is unknown to a registry, or taken."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0])


class Registry:
    """A table of objects by their `__name__`.

    Either `@REGISTRY.register()` above a class or function, or `REGISTRY.register(obj)`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._objects: dict[str, Any] = {}
        self._replaceable: set[str] = set()

    @contextmanager
    def replacing(self, names: Iterable[str]) -> Iterator[None]:
        """Let each of `names` be taken by another object within, once; after an error all is as
        it was."""
        before = dict(self._objects)
        self._replaceable = set(names)
        try:
            yield
        except BaseException:
            self._objects = before
            raise
        finally:
            self._replaceable = set()

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """Register `obj`, or return a decorator. `force` replaces an object of the same name.

        Raises:
            RegistryError: the name is taken.
        """
        if obj is None:
            return self._decorator(force)
        return self._add(obj, force)

    def get(self, name: str) -> Any:
        """Return the object registered as `name`.

        Raises:
            RegistryError: there is none.
        """
        if name not in self._objects:
            known = self.registered_names()
            raise RegistryError(
                f"{name!r} is not in the {self._name} registry. "
                f"Registered: {known}{suggestion(name, known)}. "
                "Is the module that defines it imported?"
            )
        return self._objects[name]

    def registered_names(self) -> list[str]:
        """Return all names in the order of registration."""
        return list(self._objects)

    def __contains__(self, name: str) -> bool:
        return name in self._objects

    def _decorator(self, force: bool) -> Callable[[Any], Any]:
        return lambda obj: self._add(obj, force)

    def _add(self, obj: Any, force: bool) -> Any:
        name = obj.__name__
        if name in self._objects and not force and name not in self._replaceable:
            raise RegistryError(
                f"{name!r} is already in the {self._name} registry, from "
                f"{self._objects[name].__module__}: rename it, or register with force=True"
            )
        self._replaceable.discard(name)
        self._objects[name] = obj
        return obj


def pick(registry: Registry, name: str, what: str, key: str, verbose: bool) -> Any:
    """Return what a configuration asks for, and say so if `verbose`.

    Args:
        what: what is asked for, in words; `key`: where the configuration asks for it.

    Raises:
        ValueError: `registry` has nothing of that name.
    """
    check_availability(name, registry.registered_names(), what=f"{what} ({key})")
    if verbose:
        print(f"Loading {what}: {name}")
    return registry.get(name)
