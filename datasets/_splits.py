"""Splits: what they are made of, their files, and the rules that make one. Needs no engine."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from common.advice import move_aside
from common.atomic import atomic_write
from common.text_files import read_text

from ._files import ODD

PARTS = ("train", "val", "test")
MOST_BYTES = 1 << 28  # of a split file: ImageNet's would have half of that
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
SPLIT_SEED = 1  # a split made here is the same on every machine, whatever the seed of the run


class Item(NamedTuple):
    """One image of a split. `path` is relative to the image directory, with forward slashes."""

    path: str
    label: int
    classname: str


class Split(NamedTuple):
    """Three lists of items. `val` may be empty; every label occurs in `train`."""

    train: list[Item]
    val: list[Item]
    test: list[Item]


# Files


def read_split_file(
    path: str, image_folder: str = "", again: str = "then get it again: docs/DATASETS.md"
) -> Split:
    """Read `{"train"|"val"|"test": [[relative path, label, class name], ...]}`.

    `image_folder` ends the path of the directory with the images: what follows it counts of a path
    that begins with a machine's own directories. ValueError, naming the file and the remedy
    (`again` says how to come by another one), for anything that is not such a split.
    """
    text = read_text(path, MOST_BYTES)
    try:
        return parse_split_text(text, image_folder)
    except ValueError as error:
        raise ValueError(
            f"{path} {error}\nCorrect it, or move it aside ({move_aside(path)}), {again}"
        ) from error


def parse_split_text(text: str, image_folder: str = "") -> Split:
    """The checked split in the text of its file; ValueError that says what is wrong with it."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON: {error}") from error
    try:
        return _parse_split(content, image_folder)
    except ValueError as error:
        raise ValueError(f"is not a usable split: {error}") from error


def _parse_split(content: Any, image_folder: str) -> Split:
    if not isinstance(content, dict) or not content.keys() >= set(PARTS):
        given = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"expected an object with the keys train, val, test; got {given!s:.200}")
    more = [f"{key!r:.40}" for key in content if key not in PARTS]
    if more:
        print(f"Keys of the split file that are not read: {', '.join(more[:5])}")
    split = Split(*(parse_items(content[part], part, image_folder) for part in PARTS))
    check_split(split)
    return split


def parse_items(rows: Any, part: str, image_folder: str = "") -> list[Item]:
    """Items from decoded JSON rows; ValueError names the first wrong row."""
    if not isinstance(rows, list):
        raise ValueError(f"{part!r} must be a list of [path, label, class name]")
    return [_parse_item(row, f"{part}[{i}]", image_folder) for i, row in enumerate(rows)]


def _parse_item(row: Any, where: str, image_folder: str) -> Item:
    if isinstance(row, list) and len(row) == 3:
        row = [row[0], _number(row[1]), row[2]]
    if not isinstance(row, list) or [type(field) for field in row] != [str, int, str]:
        raise ValueError(f"{where} must be [path, label, class name], got {row!r:.100}")
    item = Item(relative_path(row[0], image_folder), *row[1:])
    if not is_inside(item.path):
        raise ValueError(f"{where} has the path {row[0]!r}, which is not inside the data folder")
    if ODD.search(item.path + item.classname):
        raise ValueError(f"{where} has a control character or half a letter in it: {row!r:.100}")
    if item.label < 0 or not item.classname.strip():
        raise ValueError(f"{where} needs a label from 0 on and a class name, got {row!r:.100}")
    return item


def _number(label: Any) -> Any:
    """A label that is written as text, as the number that CoOp reads."""
    return int(label) if type(label) is str and label.isascii() and label.isdigit() else label


def relative_path(path: str, image_folder: str) -> str:
    """A path of a split as it is below `image_folder`, with forward slashes.

    CoOp on Windows writes backslashes, the leading one too, and at times the whole path.
    """
    if path.startswith("\\") or "/" not in path or DRIVE.match(path):
        path = path.replace("\\", "/").removeprefix("/")
    if image_folder and (path.startswith("/") or DRIVE.match(path)):
        _, *after = path.split(f"/{image_folder}/")
        return after[0] if len(after) == 1 else path  # named twice: who knows which is meant
    return path


def is_inside(path: str) -> bool:
    """Whether a path is relative and stays below its folder (on Windows too)."""
    parts = path.replace("\\", "/").split("/")
    absolute = not parts[0] or parts[0].endswith(":")
    return not absolute and ".." not in parts and "\0" not in path


def check_split(split: Split) -> None:
    """ValueError unless `train` has the labels 0..n-1, each label one class name everywhere, and
    `train` and `test` an image."""
    for part in ("train", "test"):
        if not getattr(split, part):
            raise ValueError(f"{part!r} is empty; it needs at least one image")
    names: dict[int, str] = {}
    for item in (item for items in split for item in items):
        if names.setdefault(item.label, item.classname) != item.classname:
            raise ValueError(
                f"label {item.label} has two class names, "
                f"{names[item.label]!r} and {item.classname!r} ({item.path})"
            )
    without = sorted(set(range(len(names))) - {item.label for item in split.train})
    if without:
        raise ValueError(
            "labels must run from 0 without a gap, each with a training image; "
            f"{len(names)} labels are used (largest {max(names)}), and label {without[0]} "
            "has no training image"
        )


def save_split_file(split: Split, path: str) -> None:
    write_json(split._asdict(), path)


def write_json(content: Any, path: str) -> None:
    """Atomic write, into a directory that is made if need be."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with atomic_write(path) as draft, open(draft, "x", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, separators=(",", ":"))


# Rules that make a split


def split_classes(
    by_class: Mapping[str, Sequence[str]],
    names: Mapping[str, str] | None = None,
    p_train: float = 0.5,
    p_val: float = 0.2,
) -> Split:
    """Each class shuffled and cut into train, val and the rest; labels in the mapping's order.

    `by_class`: key -> relative paths; `names`: key -> class name where it is not the key.
    """
    rng = random.Random(SPLIT_SEED)
    split = Split([], [], [])
    for label, (key, paths) in enumerate(by_class.items()):
        name = (names or {}).get(key, key)
        items = [Item(path, label, name) for path in paths]
        rng.shuffle(items)
        first = round(len(items) * p_train)
        second = first + round(len(items) * p_val)
        if not 0 < first < second < len(items):
            raise ValueError(
                f"class {key!r} has {len(items)} images, too few to take {p_train:.0%} for train, "
                f"{p_val:.0%} for val and the rest for test; give it at least 4"
            )
        split.train.extend(items[:first])
        split.val.extend(items[first:second])
        split.test.extend(items[second:])
    return split


def split_trainval(trainval: Iterable[Item], p_val: float = 0.2) -> tuple[list[Item], list[Item]]:
    """An official training list cut per class into train (1 - p_val) and val (p_val)."""
    rng = random.Random(SPLIT_SEED)
    by_label: dict[int, list[Item]] = {}
    for item in trainval:
        by_label.setdefault(item.label, []).append(item)
    train: list[Item] = []
    val: list[Item] = []
    for _, items in sorted(by_label.items()):
        rng.shuffle(items)
        count = round(len(items) * p_val)
        if not 0 < count < len(items):
            raise ValueError(
                f"class {items[0].classname!r} has {len(items)} training images, too few to take "
                f"{p_val:.0%} of them for val; give it at least 3"
            )
        val.extend(items[:count])
        train.extend(items[count:])
    return train, val
