"""What means harm, and how much memory it may take: for the tests of hostile files."""

import os
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path

from tools.benchmark.worker import Memory


@contextmanager
def memory_of(most: int):
    """Fails if more than `most` MiB are taken on the way."""
    memory = Memory("cpu")
    yield
    assert memory.peak() < most << 20, f"{memory.peak() >> 20} MiB"


class Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, rows: bytes = b"") -> bytes:
    """A PNG that says it is of this size, whatever its rows hold."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)  # one bit a pixel
    body = (*chunks, chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(body)
