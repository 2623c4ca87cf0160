"""The demo data set: 30 held-out combinations in the shifted style, as a few-shot benchmark set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tools.toy.classes import CLASSES
from tools.toy.drawing import draw
from tools.toy.layout import Item, numbered_items, write_once, write_pictures, write_split_file

FOLDER = "colored_shapes"
SPLIT_FILE = "split_zhou_ColoredShapes.json"
COUNTS = {"train": 30, "val": 20, "test": 40}  # pictures a class
# Chosen on validation pictures: see tools/small_clip/README.md.
SHIFT = 0.67


def write_dataset(
    root: str | Path,
    *,
    seed: int = 0,
    shift: float = SHIFT,
    counts: dict[str, int] = COUNTS,
) -> Path:
    """Draw the set into root/colored_shapes, or leave it if it is there; returns that folder.

    `shift` in [0, 1] is the strength of the shifted style. A picture depends on `seed`, its
    class and its number only. ValueError for a shift out of range, FileExistsError when the
    folder holds something else.
    """
    if not 0 <= shift <= 1:
        raise ValueError(f"shift is {shift}; allowed: 0 (the pre-training style) to 1")
    if list(counts) != list(COUNTS) or min(counts.values()) < 1:
        raise ValueError(f"counts is {counts}; needed: a number of at least 1 for {list(COUNTS)}")
    splits = demo_splits(counts)

    def fill(draft: Path) -> None:
        for items in splits.values():
            write_pictures(draft / "images", items, lambda item: picture(item, seed, shift))
        write_split_file(draft / SPLIT_FILE, splits)

    folder = Path(root) / FOLDER
    write_once(folder, {"seed": seed, "shift": shift, "counts": counts}, fill)
    return folder


def demo_splits(counts: dict[str, int] = COUNTS) -> dict[str, list[Item]]:
    """Items of each split; a class's pictures are numbered through, train first."""
    splits, first = {}, 1
    for split, count in counts.items():
        splits[split] = numbered_items(CLASSES, first, count)
        first += count
    return splits


def picture(item: Item, seed: int, shift: float) -> Image.Image:
    path, _, name = item
    rng = np.random.default_rng([seed, int(Path(path).stem), *name.encode()])
    return draw(name, rng, "shifted", shift)
