"""What the CoOp code base has on disk and in Python: its pickled draws, its loaders' helpers.

A pickle is read without running what is in it. The only class it may name is Datum, and even that
is replaced by a passive stand-in. Datum has absolute paths where our own code has items.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import dassl.utils
from common.advice import move_aside
from common.atomic import atomic_write
from dassl.data.datasets import Datum

from . import _splits
from ._files import class_paths
from ._splits import Item, Split

LEFT = b"left for plugins"  # behind the pickle, where nobody's pickle.load looks
DATUM_HOMES = ("dassl.data.datasets", "dassl.data.datasets.base_dataset")


# Pickles


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
    """Write a cache as the CoOp code base does, for plugins; where that cannot be, say so."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        content = pickle.dumps({name: list(items) for name, items in parts.items()})
        with atomic_write(path) as draft:
            draft.write_bytes(content + LEFT)
    except OSError as error:
        print(f"{path} was not written ({error}), which some plugins read")


def was_left(path: str) -> bool:
    """Whether a file is of `write_pickle`: a copy of our own draw, which tells us nothing."""
    with open(path, "rb") as file:
        file.seek(max(os.path.getsize(path) - len(LEFT), 0))
        return file.read() == LEFT


# The unpickler that is written in Python: the one in C makes a table as long as a file demands.
class _DatumUnpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._stand_in = type("Datum", (), {})

    def find_class(self, module: str, name: str) -> type:
        if module in DATUM_HOMES and name == "Datum":
            return self._stand_in
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only Datum is allowed")


def _image(datum: Any) -> PickledImage:
    fields = vars(datum)
    keys = ("impath", "label", "classname")
    path, label, name = (fields[key] if key in fields else fields[f"_{key}"] for key in keys)
    if [type(path), type(label), type(name)] != [str, int, str]:
        raise ValueError(f"an entry holds {path!r:.60}, {label!r:.20}, {name!r:.40}")
    return PickledImage(path.replace("\\", "/"), label, name)


def match_items(path: str, images: Iterable[PickledImage], items: Iterable[Item]) -> list[Item]:
    """The items of the split that a pickle's images are, whatever folder they were in then.

    An image is found by the longest end of its path that the split has. ValueError where the
    split has none, or has it under another label: the pickle belongs to another split.
    """
    known = {item.path: item for item in items}
    found = []
    for image in images:
        parts = image.path.strip("/").split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        item = next((known[end] for end in ends if end in known), None)
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


# Helpers that dataset files written for the CoOp code base call: `OxfordPets.read_split(..)`


class CoOpNames:
    """Static methods only; FewShotDataset inherits them."""

    split_trainval = staticmethod(_splits.split_trainval)

    @staticmethod
    def read_split(filepath: str, path_prefix: str) -> tuple[list[Datum], ...]:
        """Train, val and test of a split file, with paths under `path_prefix`."""
        split = _splits.read_split_file(filepath, os.path.basename(path_prefix))
        return tuple(as_data(items, path_prefix) for items in split)

    @staticmethod
    def save_split(
        train: Iterable[Datum],
        val: Iterable[Datum],
        test: Iterable[Datum],
        filepath: str,
        path_prefix: str,
    ) -> None:
        """Write a split file with paths relative to `path_prefix`."""

        def items(part: Iterable[Datum]) -> list[Item]:
            paths = ((d, os.path.relpath(d.impath, path_prefix)) for d in part)
            return [Item(p.replace(os.sep, "/"), d.label, d.classname) for d, p in paths]

        _splits.save_split_file(Split(items(train), items(val), items(test)), filepath)

    @staticmethod
    def read_and_split_data(
        image_dir: str,
        p_trn: float = 0.5,
        p_val: float = 0.2,
        ignored: Collection[str] = (),
        new_cnames: Mapping[str, str] | None = None,
    ) -> tuple[list[Datum], ...]:
        """Train, val and test made from one folder per class."""
        split = _splits.split_classes(class_paths(image_dir, ignored), new_cnames, p_trn, p_val)
        return tuple(as_data(items, image_dir) for items in split)


def as_data(items: Iterable[Item], image_dir: str) -> list[Datum]:
    return [
        Datum(impath=f"{image_dir}/{path}", label=label, classname=name)
        for path, label, name in items
    ]
