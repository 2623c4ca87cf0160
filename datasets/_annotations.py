"""Reads lists and names that come with data sets."""

from __future__ import annotations

import json
from typing import BinaryIO

MOST_BYTES = 1 << 26  # all files of the benchmark are smaller


def read_lines(path: str) -> list[str]:
    """The lines of a list, without spaces around them; ValueError for a file that is no text."""
    try:
        with open(path, "rb") as file:
            return [line.strip() for line in bounded(file, path).decode("utf-8").split("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}); save it as that") from error


def read_names(path: str) -> dict[str, str]:
    """A JSON object of texts; ValueError for a file that is not one."""
    text = "\n".join(read_lines(path))
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); get it again") from error
    if not isinstance(names, dict) or not all(type(name) is str for name in names.values()):
        raise ValueError(f"{path} must hold an object of names; get it again")
    return names


def bounded(file: BinaryIO, path: str) -> bytes:
    content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} is larger than any file of its kind; get it again")
    return content
