"""Reads a variable of a MATLAB 5 file, whose sizes are not believed before they are checked."""

from __future__ import annotations

import math
import struct
import zlib
from io import BytesIO

import numpy as np

from common.text_files import MOST_BYTES

HEADER = 128  # bytes; the last two say the byte order
MATRIX, PACKED = 14, 15  # types of elements


def read_mat(path: str, key: str) -> np.ndarray:
    """One variable as a 1-d array; ValueError for a file that is not a MATLAB file with it."""
    from scipy.io import loadmat  # only two data sets need it, and only without a split file

    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError("it is larger than any file of its kind")
        order = "<" if content[HEADER - 2 : HEADER] == b"IM" else ">"
        _check_elements(memoryview(content)[HEADER:], order)
        return np.atleast_1d(loadmat(BytesIO(content), squeeze_me=True)[key])
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(
            f"{path} is not a MATLAB file with the variable {key!r} ({error}); get it again"
        ) from error


def _check_elements(content: memoryview, order: str) -> None:
    """ValueError for an array that says it has more values than bytes, or unpacks to too many."""
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        if kind >> 16:  # a small one: tag and value in eight bytes
            place += 8
            continue
        data = content[place + 8 : place + 8 + size]
        if kind == MATRIX and size:
            _check_matrix(data, order)
        elif kind == PACKED:
            _check_elements(memoryview(_unpacked(data)), order)
        place += 8 + size + (-size % 8 if kind != PACKED else 0)


def _unpacked(data: memoryview) -> bytes:
    unpacked = zlib.decompressobj().decompress(data, MOST_BYTES + 1)
    if len(unpacked) > MOST_BYTES:
        raise ValueError("it unpacks to far more than its own size")
    return unpacked


def _check_matrix(data: memoryview, order: str) -> None:
    """Flags, dimensions, a name, and then the values, which may be arrays again."""
    _, size = struct.unpack_from(f"{order}II", data, 16)
    lengths = struct.unpack_from(f"{order}{size // 4}i", data, 24)
    if min(lengths) < 0 or math.prod(lengths) > len(data):
        raise ValueError(f"an array of it says that its size is {lengths}")
    _check_elements(data[24 + size + -size % 8 :], order)
