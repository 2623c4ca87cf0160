"""Writes data sets on disk in the benchmark's layout: class folders and a split file."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

Item = tuple[str, int, str]  # path below the image folder, label, class name
SETTINGS = "drawn_with.json"
PICTURES = {".png", ".jpg", ".jpeg", ".JPEG"}


def class_folder(name: str) -> str:
    return name.replace(" ", "_")


def numbered_items(names: Iterable[str], first: int, count: int) -> list[Item]:
    """`count` items a class, named 'red_circle/0001.png' from number `first` on."""
    return [
        (f"{class_folder(name)}/{number:04d}.png", label, name)
        for label, name in enumerate(names)
        for number in range(first, first + count)
    ]


def write_split_file(path: Path, splits: dict[str, list[Item]]) -> None:
    """{"train" | "val" | "test": [[relative path, label, class name], ...]} as JSON."""
    path.write_text(json.dumps(splits), encoding="utf-8")


def write_pictures(
    folder: Path, items: Iterable[Item], paint: Callable[[Item], Image.Image]
) -> None:
    """Save paint(item) at every item's path below `folder`; the suffix decides the format."""
    for item in items:
        path = folder / item[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        paint(item).save(path)


def write_once(folder: Path, settings: dict, fill: Callable[[Path], None]) -> bool:
    """Make `folder` by fill(draft), unless it is there, whole, and was made with `settings`.

    The draft lies beside `folder` and takes its place when it is complete: whoever finds
    `folder` finds all of it. A set that this function made with other settings, or that lost
    files since, is replaced. Returns whether anything was written. FileExistsError when the
    folder is not of this function's making.
    """
    if is_whole(folder, settings):
        return False
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
        record = {"settings": settings, "pictures": count_pictures(draft)}
        (draft / SETTINGS).write_text(json.dumps(record, indent=1), encoding="utf-8")
        swap_in(draft, folder, Path(space, "old"), settings)
    return True


def is_whole(folder: Path, settings: dict) -> bool:
    """Whether `folder` was made with `settings` and has lost no picture since.

    Other files may join them: loaders keep splits and few-shot draws beside the pictures.
    """
    record = read_record(folder)
    return record.get("settings") == settings and record.get("pictures") == count_pictures(folder)


def read_record(folder: Path) -> dict:
    """What `write_once` noted in the folder; empty if there is nothing, or nothing readable."""
    try:
        record = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def count_pictures(folder: Path) -> int:
    return sum(path.suffix in PICTURES for path in folder.rglob("*"))


def swap_in(draft: Path, folder: Path, old: Path, settings: dict) -> None:
    """Rename draft to folder; what was there goes to `old`. Another process may be first."""
    if folder.exists():
        shutil.move(folder, old)
    try:
        draft.rename(folder)
    except OSError:
        if not is_whole(folder, settings):
            raise
