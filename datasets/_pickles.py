"""Caches of the CoOp code base, pickles of Datum lists, read without running what is in them.

The only class such a file may name is Datum, and even that is replaced by a passive stand-in.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import dassl.utils
from common.advice import move_aside
from dassl.data.datasets import Datum

from ._splits import Item

LEFT = b"left for plugins"  # behind the pickle, where nobody's pickle.load looks
DATUM_HOMES = ("dassl.data.datasets", "dassl.data.datasets.base_dataset")


class PickledImage(NamedTuple):
    path: str  # as the pickle has it: usually absolute, on whatever machine it was made
    label: int
    classname: str


def read_pickle(path: str, parts: Iterable[str]) -> dict[str, list[PickledImage]]:
    """The named lists of a CoOp cache. ValueError for any file that is not one."""
    try:
        with open(path, "rb") as file:
            content = _DatumUnpickler(file).load()
        return {part: [_image(datum) for datum in content[part]] for part in parts}
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        what_it_is = getattr(dassl.utils, "what_it_is", lambda path: None)  # not upstream's
        what = what_it_is(path)
        why = f"it is {what}" if what else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} is not a cache of the CoOp code base ({why}); nothing in it was run. "
            f"{again(path)}"
        ) from error


def write_pickle(path: str, **parts: Iterable[Datum]) -> None:
    """Writes a cache as the CoOp code base does; where that cannot be, there is none."""
    draft = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(draft, "wb") as file:
            pickle.dump({name: list(items) for name, items in parts.items()}, file)
            file.write(LEFT)
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            os.remove(draft)
        print(f"{path} was not written ({error}), which some plugins read")


def was_left(path: str) -> bool:
    """Whether a file is of `write_pickle`: a copy of our own draw, which tells us nothing."""
    with open(path, "rb") as file:
        file.seek(max(os.path.getsize(path) - len(LEFT), 0))
        return file.read() == LEFT


# The unpickler that is written in Python: the one in C makes a table as long as a file demands.
class _DatumUnpickler(pickle._Unpickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._stand_in = type("Datum", (), {})

    def find_class(self, module: str, name: str) -> type:
        if module in DATUM_HOMES and name == "Datum":
            return self._stand_in
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only Datum is allowed")


def _image(datum: Any) -> PickledImage:
    fields = vars(datum)
    path, label, name = (
        fields[key] if key in fields else fields[f"_{key}"]
        for key in ("impath", "label", "classname")
    )
    if [type(path), type(label), type(name)] != [str, int, str]:
        raise ValueError(f"an entry holds {path!r:.60}, {label!r:.20}, {name!r:.40}")
    return PickledImage(path.replace("\\", "/"), label, name)


def match_items(path: str, images: Iterable[PickledImage], items: Iterable[Item]) -> list[Item]:
    """The items of the split that a pickle's images are, whatever folder they were in then.

    An image is found by the longest tail of its path that the split has. ValueError where the
    split has none, or has it under another label: the pickle belongs to another split.
    """
    known = {item.path: item for item in items}
    found = []
    for image in images:
        item = next((known[tail] for tail in tails(image.path) if tail in known), None)
        if item is None or item.label != image.label:
            raise ValueError(
                f"{path} was drawn from another split: {image.path} with label {image.label} "
                f"is {'not in this one' if item is None else f'labelled {item.label} in this one'}."
                f" {again(path)}"
            )
        found.append(item)
    return found


def check_classes(path: str, drawn: Iterable[Item], items: Iterable[Item]) -> None:
    """ValueError where a class of the split has no image in what was drawn from it."""
    without = {item.label for item in items} - {item.label for item in drawn}
    if without:
        raise ValueError(
            f"{path} was drawn from another split: it has no image of label {min(without)}. "
            f"{again(path)}"
        )


def again(path: str) -> str:
    return f"Move it aside ({move_aside(path)}), and it is made again"


def tails(path: str) -> Iterable[str]:
    """'/a/b/c' -> 'a/b/c', 'b/c', 'c'."""
    parts = path.strip("/").split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))
