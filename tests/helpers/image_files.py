"""Image files of depths and layouts that Pillow reads and cannot write."""

import struct
import zlib

import numpy as np

from tests.helpers.hostile import chunk


def gradient() -> np.ndarray:
    """64 x 64 bytes, from black to white along the diagonal."""
    y, x = np.mgrid[0:64, 0:64]
    return ((x + y) * 2).clip(0, 255).astype(np.uint8)


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, of (H, W) or (H, W, channels)."""
    height, width, *channels = values.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 1]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(
    values: np.ndarray,
    bits: int = 0,
    kind: int = 1,
    photometric: int = 1,
    tags: dict | None = None,
    byte_order: str = "<",
) -> bytes:
    """A TIFF of one strip of (H, W) or (H, W, channels).

    bits: of each channel; by default those of the array's type
    kind: 1 unsigned, 2 signed, 3 float
    tags: more of them, or others, each a number or a list of numbers
    """
    height, width, *channels = values.shape
    count = channels[0] if channels else 1
    data = values.astype(values.dtype.newbyteorder(byte_order)).tobytes()
    fields = {256: width, 257: height, 258: [bits or values.itemsize * 8] * count, 259: 1}
    fields |= {262: photometric, 273: 8, 277: count, 278: height, 279: len(data)}
    fields |= {339: [kind] * count} | (tags or {})
    place = 8 + len(data)
    behind, rows = place + 2 + 12 * len(fields) + 4, b""
    longer = b""
    for tag, value in sorted(fields.items()):
        numbers = value if isinstance(value, list) else [value]
        packed = struct.pack(f"{byte_order}{len(numbers)}I", *numbers)
        if len(packed) > 4:
            longer, packed = (
                longer + packed,
                struct.pack(f"{byte_order}I", behind + len(longer)),
            )
        rows += struct.pack(f"{byte_order}HHI", tag, 4, len(numbers)) + packed
    head = (b"II*\0" if byte_order == "<" else b"MM\0*") + struct.pack(f"{byte_order}I", place)
    size = struct.pack(f"{byte_order}H", len(fields))
    return head + data + size + rows + bytes(4) + longer


def packed_12_bits(values: np.ndarray) -> np.ndarray:
    """Values below 4096 (H, W), two in three bytes: (H, W * 3 / 2)."""
    first, second = (values[:, i::2].astype(np.uint16) for i in (0, 1))
    three = (first >> 4, ((first & 15) << 4) | (second >> 8), second & 255)
    return np.stack(three, axis=-1).reshape(len(values), -1).astype(np.uint8)
