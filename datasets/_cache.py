"""What runs keep: the few-shot draws, and listings of directories that take long to make.

Files are JSON with relative paths, in `<dataset>/split_fewshot/`; where that cannot be
written, in the user's cache directory. A file that is damaged or of another split is as good as
none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from ._files import CACHE_NAME, class_folders, list_images
from ._splits import Item, parse_items, write_json

Draw = tuple[list[Item], list[Item]]  # train, val


def cache_folders(dataset_dir: str) -> list[str]:
    """Where cached files of a dataset may be, the preferred place first."""
    key = hashlib.sha256(os.path.realpath(dataset_dir).encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [
        os.path.join(dataset_dir, CACHE_NAME),
        os.path.join(home, "mmrl", f"{os.path.basename(dataset_dir)}-{key}"),
    ]


def load_json(dataset_dir: str, name: str) -> Any:
    """The first readable cached file of this name, decoded; None where there is none."""
    for folder in cache_folders(dataset_dir):
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError, RecursionError):
            continue
    return None


def store_json(dataset_dir: str, name: str, content: Any) -> None:
    """Write to the first place that can be written, if there is one."""
    for folder in cache_folders(dataset_dir):
        try:
            return write_json(content, os.path.join(folder, name))
        except OSError:
            continue


# Few-shot draws


def fingerprint(*lists: Sequence[Item]) -> str:
    """SHA-256 over all items: another split, another fingerprint."""
    digest = hashlib.sha256()
    for items in lists:
        for start in range(0, len(items), 4096):  # in pieces: ImageNet has a million items
            part = items[start : start + 4096]
            digest.update("".join(f"{path}\t{y}\t{name}\n" for path, y, name in part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def load_draw(dataset_dir: str, shots: int, seed: int, split: str) -> Draw | None:
    """The draw kept for these shots, this seed and the split with this fingerprint."""
    record = load_json(dataset_dir, draw_name(shots, seed, split))
    if not isinstance(record, dict) or record.get("split") != split:
        return None
    try:
        return parse_items(record.get("train"), "train"), parse_items(record.get("val"), "val")
    except ValueError:
        return None


def store_draw(dataset_dir: str, shots: int, seed: int, split: str, draw: Draw) -> None:
    record = {"split": split, "shots": shots, "seed": seed, "train": draw[0], "val": draw[1]}
    store_json(dataset_dir, draw_name(shots, seed, split), record)


def draw_name(shots: int, seed: int, split: str) -> str:
    return f"shot_{shots}-seed_{seed}-{split[:8]}.json"


# Listings


def list_class_folders_once(dataset_dir: str, folder: str) -> dict[str, list[str]]:
    """Class folder of dataset_dir/folder -> names of its images, kept for the next run.

    A class folder is listed again when its modification time says that files came or went.
    """
    name = f"listing-{folder.replace('/', '-')}.json"
    kept = load_json(dataset_dir, name)
    known = kept if isinstance(kept, dict) else {}
    listing: dict[str, Any] = {}
    for cls in class_folders(os.path.join(dataset_dir, folder)):
        path = os.path.join(dataset_dir, folder, cls)
        time = os.stat(path).st_mtime_ns
        current = _is_current(known.get(cls), time)
        listing[cls] = known[cls] if current else [time, list_images(path)]
    if listing != known:
        store_json(dataset_dir, name, listing)
    return {cls: names for cls, (_, names) in listing.items()}


def _is_current(entry: Any, time: int) -> bool:
    if not isinstance(entry, list) or len(entry) != 2 or entry[0] != time:
        return False
    return isinstance(entry[1], list) and all(
        type(name) is str and os.path.basename(name) == name for name in entry[1]
    )
