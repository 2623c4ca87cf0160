"""What is in a folder: class folders and images, in one order on every system."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Iterable

from common.text_files import likely_encoding

CACHE_NAME = "split_fewshot"  # what runs keep, beside the class folders
NO_CLASSES = {  # folders that systems, archivers and disks make
    *("__MACOSX", "lost+found", "@eaDir", "#recycle", "@Recycle", "@Recently-Snapshot"),
    *("$RECYCLE.BIN", "System Volume Information", "__pycache__"),
}
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff",
    ".gif",
)  # fmt: skip
ODD = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters; bytes that are no UTF-8


def class_folders(folder: str, ignore: Iterable[str] = ()) -> list[str]:
    """Sorted names of the folders in a folder, without hidden and ignored ones, and NO_CLASSES."""
    skipped = {CACHE_NAME, *NO_CLASSES, *ignore}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
    return in_order(folder, (name for name in names if name not in skipped))


def list_images(folder: str) -> list[str]:
    """Sorted names of the files in a folder that look like images; no file is opened."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return in_order(folder, (name for name in names if is_image(name)))


def is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and name[0] != "."


def class_paths(folder: str, ignore: Iterable[str] = ()) -> dict[str, list[str]]:
    """Class folder -> sorted paths of its images relative to `folder`."""
    return {
        name: [f"{name}/{file}" for file in list_images(os.path.join(folder, name))]
        for name in class_folders(folder, ignore)
    }


def in_order(folder: str, names: Iterable[str]) -> list[str]:
    """Names in a folder, sorted as if accents were composed: macOS writes them decomposed.

    ValueError for a name that cannot be written down.
    """
    names = sorted(names, key=lambda name: (composed(name), name))
    odd = next((name for name in names if ODD.search(name)), None)
    if odd is not None:
        raise ValueError(_advice(folder, odd))
    return names


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _advice(folder: str, name: str) -> str:
    raw = os.fsencode(name)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        command = f"convmv -r --notest -f {likely_encoding(raw)} -t UTF-8 {shlex.quote(folder)}"
        return (
            f"{folder} has the name {raw!r}, which is not UTF-8, as from an archive of another "
            f"system; rename it, or all such names there: {command}"
        )
    return f"{folder} has the name {name!r}, with a control character; rename it"
