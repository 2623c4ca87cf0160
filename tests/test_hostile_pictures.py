"""Pictures from strangers: nothing is run, memory stays small, the message names the file."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dassl.utils import read_image
from tests.hostile import chunk, memory_of, png
from tools.data.survey import is_decodable


def saved(kind: str, size=(64, 64)) -> bytes:
    """A good picture of noise."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(noise).save(stream, kind)
    return stream.getvalue()


def gif(screen: int, frame: int) -> bytes:
    """A frame that is larger than the screen it is shown on."""
    head = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x02\x44\x01\x00;"


def tiff(width: int, height: int, offset: int = 8) -> bytes:
    """Header and one directory; the only strip is said to be at `offset`."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: offset, 277: 1, 278: height}
    tags |= {279: min(width * height, 2**32 - 1)}
    rows = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())]
    return b"II*\0" + struct.pack("<IH", 8, len(rows)) + b"".join(rows) + bytes(4)


HOSTILE = {
    "50,000 x 50,000 pixels": png(50_000, 50_000),
    "all of 50,000 x 50,000 pixels": png(50_000, 50_000, rows=bytes(50_000 * 6251)),
    "just too many pixels": png(10_000, 10_000, rows=bytes(10_000 * 1251)),
    "a text that unpacks": png(
        8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20))), rows=bytes(16)
    ),
    "a profile that unpacks": png(
        8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200 << 20))), rows=b"\1"
    ),
    "truncated PNG": saved("PNG")[:500],
    "truncated JPEG": saved("JPEG")[:600],
    "truncated WebP": saved("WEBP")[:500],
    "JPEG of 65,500 x 65,500": saved("JPEG").replace(
        struct.pack(">HH", 64, 64), struct.pack(">HH", 65_500, 65_500), 1
    ),
    "BMP of two billion rows": saved("BMP")[:22] + struct.pack("<i", 2**31 - 1) + saved("BMP")[26:],
    "GIF frame beyond its screen": gif(1, 60_000),
    "TIFF of 60,000 x 60,000": tiff(60_000, 60_000),
    "TIFF that points behind its end": tiff(100, 100, 2**31),
    "TIFF that points at itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "PPM of a million columns": b"P6 1000000 1000000 255\n",
    "text": b"<html>not found</html>",
    "nothing": b"",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_picture(content, tmp_path):
    file = tmp_path / "picture.jpg"
    file.write_bytes(content)
    with memory_of(150), pytest.raises(OSError, match=r"picture\.jpg.*take it out"):
        read_image(file)
    assert not is_decodable(str(file))


def test_no_program_is_started(tmp_path, monkeypatch):
    """Pillow gives PostScript, whatever its name, to Ghostscript."""
    marker, program = tmp_path / "owned", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = tmp_path / "picture.jpg"
    file.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(OSError, match=r"picture\.jpg"):
        read_image(file)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "MPO"])
def test_good_pictures(kind, tmp_path):
    file = tmp_path / "picture.jpg"  # data sets have pictures of one kind under the name of another
    file.write_bytes(saved(kind))
    assert read_image(file).size == (64, 64)
