"""The demo dataset: which classes it has, and writing it in the benchmark's layout.

Of the 100 combinations of color and shape, 30 are held out of the small CLIP's pre-training: it
has seen their colors and their shapes, never together. Neither attribute alone tells a half's
classes apart: each half has 7 colors and 7 shapes, and a color has up to three shapes and a shape
up to three colors.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tools.toy.drawing import all_class_names, draw

BASE: tuple[str, ...] = (
    "brown arrow", "green circle", "green diamond", "orange cross", "orange diamond",
    "pink circle", "pink cross", "pink diamond", "purple square", "white cross",
    "white heart", "white star", "yellow arrow", "yellow circle", "yellow star",
)  # fmt: skip
NEW: tuple[str, ...] = (
    "blue heart", "blue square", "blue triangle", "brown ring", "brown star",
    "cyan crescent", "cyan heart", "cyan ring", "green triangle", "orange crescent",
    "purple arrow", "purple crescent", "red ring", "red square", "red triangle",
)  # fmt: skip
# Label c is CLASSES[c]: the first half of the sorted labels is what base-to-new calls base.
CLASSES: tuple[str, ...] = BASE + NEW
SEEN: tuple[str, ...] = tuple(name for name in all_class_names() if name not in CLASSES)

FOLDER, SPLIT_FILE = "colored_shapes", "split_zhou_ColoredShapes.json"
COUNTS = {"train": 30, "val": 20, "test": 40}  # images a class
SHIFT = 0.67  # chosen on validation images: see tools/small_clip/README.md
SETTINGS = "drawn_with.json"
IMAGES = {".png", ".jpg", ".jpeg", ".JPEG"}
Item = tuple[str, int, str]  # path below the image directory, label, class name


def write_dataset(
    root: str | Path, *, seed: int = 0, shift: float = SHIFT, counts: Mapping[str, int] = COUNTS
) -> Path:
    """Draw the set into root/colored_shapes, or leave it if it is there; returns that directory.

    `shift` in [0, 1] is the strength of the shifted style. An image depends on `seed`, its
    class and its number only. ValueError for a shift out of range, FileExistsError when the
    directory holds something else.
    """
    if not 0 <= shift <= 1:
        raise ValueError(f"shift is {shift}; allowed: 0 (the pre-training style) to 1")
    if list(counts) != list(COUNTS) or min(counts.values()) < 1:
        raise ValueError(f"counts is {counts}; needed: a number of at least 1 for {list(COUNTS)}")
    splits = demo_splits(counts)

    def fill(draft: Path) -> None:
        for item in (item for items in splits.values() for item in items):
            path = draft / "images" / item[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_item(item, seed, shift).save(path)
        (draft / SPLIT_FILE).write_text(json.dumps(splits), encoding="utf-8")

    folder = Path(root) / FOLDER
    write_once(folder, {"seed": seed, "shift": shift, "counts": dict(counts)}, fill)
    return folder


def demo_splits(counts: Mapping[str, int] = COUNTS) -> dict[str, list[Item]]:
    """Items of each split; a class's images are numbered through, train first."""
    splits, first = {}, 1
    for split, count in counts.items():
        splits[split] = [
            (f"{name.replace(' ', '_')}/{number:04d}.png", label, name)
            for label, name in enumerate(CLASSES)
            for number in range(first, first + count)
        ]
        first += count
    return splits


def draw_item(item: Item, seed: int, shift: float) -> Image.Image:
    path, _, name = item
    rng = np.random.default_rng([seed, int(Path(path).stem), *name.encode()])
    return draw(name, rng, "shifted", shift)


# Drawn directories


def write_once(folder: Path, settings: dict[str, Any], fill: Callable[[Path], None]) -> None:
    """Make `folder` by fill(draft), unless it is there, whole, and was made with `settings`.

    The draft lies beside `folder` and takes its place when it is complete: whoever finds
    `folder` finds all of it. A set that this function made with other settings, or that lost
    files since, is replaced. FileExistsError when the directory is not of this function's making.
    """
    if is_whole(folder, settings):
        return
    if folder.exists() and not (folder / SETTINGS).is_file():
        raise FileExistsError(
            f"{folder} exists and was not drawn by this tool (it has no {SETTINGS}): "
            "move it away or give another root"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as space:
        draft = Path(space, "draft")
        draft.mkdir()
        fill(draft)
        record = {"settings": settings, "images": count_images(draft)}
        (draft / SETTINGS).write_text(json.dumps(record, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.move(folder, Path(space, "old"))
        try:
            draft.rename(folder)
        except OSError:  # another process may have been first
            if not is_whole(folder, settings):
                raise


def is_whole(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether `folder` was made with `settings` and has lost no image since.

    Other files may join them: loaders keep splits and few-shot draws beside the images.
    """
    record = read_record(folder)
    return record.get("settings") == settings and record.get("images") == count_images(folder)


def read_record(folder: Path) -> dict[str, Any]:
    """What `write_once` noted in the directory; empty if there is nothing, or nothing readable."""
    try:
        record = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def count_images(folder: Path) -> int:
    return sum(path.suffix in IMAGES for path in folder.rglob("*"))
