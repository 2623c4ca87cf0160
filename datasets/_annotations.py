"""Reads annotation files of data sets."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import BinaryIO

import numpy as np

MOST_BYTES = 1 << 26  # of a list, or a MATLAB file unpacked: those of the benchmark are smaller
COMPRESSED = 15  # type of a packed variable in a MATLAB 5 file


def read_lines(path: str) -> list[str]:
    """The lines of a list, without spaces around them; ValueError for a file that is no text."""
    try:
        with open(path, "rb") as file:
            return [line.strip() for line in _bounded(file, path).decode("utf-8").split("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}); save it as that") from error


def read_mat(path: str, key: str) -> np.ndarray:
    """One variable of a MATLAB file as a 1-d array; ValueError for a file that is not one."""
    from scipy.io import loadmat  # only two data sets need it, and only without a split file

    try:
        with open(path, "rb") as file:
            content = _bounded(file, path)
        _check_unpacked_size(content)
        return np.atleast_1d(loadmat(BytesIO(content), squeeze_me=True)[key])
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(
            f"{path} is not a MATLAB file with the variable {key!r} ({error}); get it again"
        ) from error


def _bounded(file: BinaryIO, path: str) -> bytes:
    content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} is larger than any file of its kind; get it again")
    return content


def _check_unpacked_size(content: bytes) -> None:
    """ValueError where the packed variables of a MATLAB 5 file hold more than MOST_BYTES."""
    order = "<" if content[126:128] == b"IM" else ">"
    place, left = 128, MOST_BYTES
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        if kind == COMPRESSED:
            packed = content[place + 8 : place + 8 + size]
            left -= len(zlib.decompressobj().decompress(packed, max(left, 0) + 1))
        if left < 0:
            raise ValueError("it unpacks to far more than its own size")
        place += 8 + size
