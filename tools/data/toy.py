"""Draws every data set small, in its real layout, so that all loaders run without a download."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tools.data import toy_layouts as layouts
from tools.data.catalogue import Counts, catalogue, find_entry
from tools.data.toy_layouts import Amounts, Paint
from tools.toy.drawing import all_class_names, draw
from tools.toy.layout import read_record, write_once

CLASSES = 8
TRAIN = 20  # training pictures a class: enough for 16 shots
SIZE = 48  # pixels
Layout = Callable[[Path, list[str], Amounts, Paint], None]
TRAIN_TEST_LISTS: dict[str, Layout] = {  # val is a fifth of the published training list
    "oxford_pets": layouts.oxford_pets,
    "stanford_cars": layouts.stanford_cars,
    "sun397": layouts.sun397,
    "ucf101": layouts.ucf101,
}
WHOLE_CLASSES: dict[str, Layout] = {  # 50/20/30 of what is there
    "caltech101": layouts.caltech101,
    "oxford_flowers": layouts.oxford_flowers,
    "food101": layouts.class_folders,
    "fgvc_aircraft": layouts.fgvc_aircraft,
    "dtd": layouts.class_folders,
    "eurosat": layouts.eurosat,
}
NO_VAL: dict[str, Layout] = {"imagenet": layouts.imagenet}
ONLY_TEST: dict[str, Layout] = {
    "imagenetv2": layouts.imagenetv2,
    "imagenet_sketch": layouts.imagenet_sketch,
    "imagenet_a": layouts.every_second("imagenet-a"),
    "imagenet_r": layouts.every_second("imagenet-r"),
}


def write_toy(
    root: Path,
    names: Iterable[str] = (),
    *,
    classes: int = CLASSES,
    train: int = TRAIN,
    size: int = SIZE,
) -> list[Path]:
    """Draws the named data sets (default: all) into root/<folder>; returns these folders.

    `train` pictures a class, and 2/5 to 3/5 of that for val and test. A picture depends on its
    path and class only. ValueError for amounts that cannot be split, FileExistsError where a
    folder holds real data.
    """
    if not 2 <= classes <= len(all_class_names()):
        raise ValueError(f"classes is {classes}; allowed: 2 to {len(all_class_names())}")
    if train < 5 or train % 5:
        raise ValueError(f"train is {train}; allowed: 5, 10, 15, .. pictures a class")
    configs = [find_entry(name).config for name in names] or list(catalogue())
    return [_write_one(root, config, classes, train, size) for config in configs]


def toy_counts(folder: Path) -> Counts | None:
    """What a loader must find in a drawn folder; None for any other folder."""
    settings = read_record(folder).get("settings")
    counts = settings.get("counts") if isinstance(settings, dict) else None
    numbers = isinstance(counts, list) and all(type(count) is int for count in counts)
    return Counts(*counts) if numbers and len(counts) == len(Counts._fields) else None


def _write_one(root: Path, config: str, classes: int, train: int, size: int) -> Path:
    layout, amounts = _layout(config, train)
    shown = -(-classes // 2) if config in ("imagenet_a", "imagenet_r") else classes
    counts = Counts(shown, *(shown * count for count in amounts))
    folder = root / catalogue()[config].folder
    names = toy_names(config, classes)

    def fill(draft: Path) -> None:
        def paint(path: Path, name: str) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            key = f"{config}/{path.relative_to(draft).as_posix()}"
            rng = np.random.default_rng(zlib.crc32(key.encode()))
            draw(name, rng, size=size).save(path, "JPEG", quality=90)

        layout(draft, names, amounts, paint)

    write_once(folder, {"counts": list(counts), "size": size}, fill)
    return folder


def _layout(config: str, train: int) -> tuple[Layout, Amounts]:
    """How to draw a set, and the pictures per class that its loader makes of it."""
    test = train * 3 // 5
    if config in TRAIN_TEST_LISTS:
        return TRAIN_TEST_LISTS[config], Amounts(train, round(train / 4), test)
    if config in WHOLE_CLASSES:
        return WHOLE_CLASSES[config], Amounts(train, train * 2 // 5, test)
    if config in NO_VAL:
        return NO_VAL[config], Amounts(train, 0, test)
    return ONLY_TEST[config], Amounts(0, 0, test)


def toy_names(config: str, classes: int) -> list[str]:
    """Sorted class names. Variants of ImageNet have its classes, other sets some of their own."""
    every = all_class_names()
    start = 0 if config.startswith("imagenet") else zlib.crc32(config.encode())
    return sorted(every[(start + 7 * step) % len(every)] for step in range(classes))
