"""What comes with datasets: directories of images, lists, names, MATLAB files."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable
from typing import Any

from common.image_files import is_image
from common.text_files import likely_encoding, read_text

CACHE_NAME = "split_fewshot"  # what runs keep, beside the class folders
NO_CLASSES = {  # folders that systems, archivers and disks make
    *("__MACOSX", "lost+found", "@eaDir", "#recycle", "@Recycle", "@Recently-Snapshot"),
    *("$RECYCLE.BIN", "System Volume Information", "__pycache__"),
}
ODD = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters; bytes that are no UTF-8
MAT_BYTES = 1 << 20  # of a MATLAB file: the largest that a dataset has is a third of it
MAT_VALUES = 1 << 20  # of its variables


# Directories


def class_folders(folder: str, ignore: Iterable[str] = ()) -> list[str]:
    """Sorted names of the folders in a folder, without hidden and ignored ones, and NO_CLASSES."""
    skipped = {CACHE_NAME, *NO_CLASSES, *ignore}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
    return in_order(folder, (name for name in names if name not in skipped))


def list_images(folder: str) -> list[str]:
    """Sorted names of the files in a folder that look like images; no file is opened."""
    return in_order(folder, filter(is_image, os.listdir(folder)))


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
    if odd is None:
        return names
    raw = os.fsencode(odd)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        command = f"convmv -r --notest -f {likely_encoding(raw)} -t UTF-8 {shlex.quote(folder)}"
        raise ValueError(
            f"{folder} has the name {raw!r}, which is not UTF-8, as from an archive of another "
            f"system; rename it, or all such names there: {command}"
        ) from None
    raise ValueError(f"{folder} has the name {odd!r}, with a control character; rename it")


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


# Lists and names


def read_lines(path: str) -> list[str]:
    """The lines of a list, without spaces around them; ValueError for a file that is no text."""
    return [line.strip() for line in read_text(path).split("\n")]


def read_rows(path: str, fields: int) -> list[tuple[int, list[str]]]:
    """Each line's number, and the line cut into `fields` fields, the last taking what remains.

    Empty lines are left out; ValueError for one with fewer fields.
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        row = line.split(None, fields - 1)
        if row and len(row) < fields:
            raise ValueError(f"{path}, line {number}: expected {fields} fields: {line!r:.80}")
        rows += [(number, row)] if row else []
    return rows


def read_names(path: str) -> dict[str, str]:
    """A JSON object of texts; ValueError for a file that is not one."""
    text = read_text(path)
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); get it again") from error
    if not isinstance(names, dict) or not all(type(name) is str for name in names.values()):
        raise ValueError(f"{path} must hold an object of names; get it again")
    return names


def words_of_folders(path: str, rows: Iterable[tuple[int, list[str]]]) -> dict[str, str]:
    """Class folder -> words, of a list's rows; ValueError for a folder that is named twice."""
    words: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, (folder, name) in rows:
        if folder in lines:
            raise ValueError(
                f"{path}, line {line}: the class folder {folder!r} was named in line "
                f"{lines[folder]} already; leave one of the two lines"
            )
        words[folder], lines[folder] = name, line
    return words


def read_mat(path: str, key: str) -> Any:
    """A variable of a MATLAB file as a 1-d array; ValueError for a file that is not one with it."""
    import numpy as np
    from scipy.io import loadmat, whosmat  # only two datasets need it, and only without a split

    try:
        if os.path.getsize(path) > MAT_BYTES:
            raise ValueError("it is larger than any file of its kind")
        if sum(math.prod(shape) for _, shape, _ in whosmat(path)) > MAT_VALUES:
            raise ValueError("it says that it has more values than any file of its kind")
        return np.atleast_1d(loadmat(path, squeeze_me=True)[key])
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(
            f"{path} is not a MATLAB file with the variable {key!r} ({error}); get it again"
        ) from error
