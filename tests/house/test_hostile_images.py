"""Images from strangers: nothing is run, memory stays small, the message names the file."""

import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dassl.utils import read_image
from dassl.utils.images import NotAnImage, TooLarge
from tests.helpers.hostile import chunk, memory_of, png
from tests.helpers.image_files import tiff
from tools.data.survey import is_decodable


def saved(kind: str, size=(64, 64)) -> bytes:
    """A good image of noise."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(noise).save(stream, kind)
    return stream.getvalue()


def gif(screen: int, frame: int) -> bytes:
    """A frame that is larger than the screen it is shown on."""
    head = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x02\x44\x01\x00;"


def told(width: int, height: int, tags: dict | None = None) -> bytes:
    """A TIFF of a pixel that says it is of this size, and what else `tags` hold."""
    size = {256: width, 257: height, 278: height, 279: min(width * height, 2**32 - 1)}
    return tiff(np.zeros((1, 1), np.uint8), tags=size | (tags or {}))


def scans(width: int, height: int, count: int) -> bytes:
    """A progressive JPEG that says it is of this size, whose last scan stands there many times."""
    stream = io.BytesIO()
    Image.new("L", (64, 64), 7).save(stream, "JPEG", progressive=True)
    content = stream.getvalue().replace(
        struct.pack(">HH", 64, 64), struct.pack(">HH", height, width), 1
    )
    last = content.rindex(b"\xff\xc4")
    return content[:last] + content[last:-2] * count + content[-2:]


def webp(edge: int) -> bytes:
    """Two frames on a canvas that is said to be larger."""
    stream = io.BytesIO()
    other = Image.new("RGB", (8, 8), "red")
    Image.new("RGB", (8, 8)).save(stream, "WEBP", save_all=True, append_images=[other])
    content = bytearray(stream.getvalue())
    place = content.index(b"VP8X") + 12
    content[place : place + 6] = struct.pack("<I", edge - 1)[:3] * 2
    return bytes(content)


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
    "TIFF of 60,000 x 60,000": told(60_000, 60_000),
    "TIFF that points behind its end": told(100, 100, {273: 2**31}),
    "TIFF of 300,000 strips": told(64, 64, {273: [8] * 300_000, 279: [1] * 300_000, 278: 1}),
    "TIFF of 300,000 tiles": told(
        64, 64, {322: 16, 323: 16, 324: [8] * 300_000, 325: [1] * 300_000}
    ),
    "TIFF of a tile of 20,000 x 20,000": told(16, 16, {322: 20_000, 323: 20_000, 324: 8, 325: 1}),
    "JPEG of 2,000 scans": scans(9000, 9000, 2000),
    "WebP of 16,383 x 16,383": webp(16_383),
    "TIFF that points at itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "PPM of a million columns": b"P6 1000000 1000000 255\n",
    "text": b"<html>not found</html>",
    "nothing": b"",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_image(content, tmp_path):
    file = tmp_path / "image.jpg"
    file.write_bytes(content)
    with memory_of(150), pytest.raises(OSError, match=r"image\.jpg.*take it out"):
        read_image(file)
    assert not is_decodable(str(file))


@pytest.mark.parametrize(
    "name", [name for name in HOSTILE if re.search(r"TIFF of .*00|scans|too many", name)]
)
def test_what_costs_more_than_it_shows_is_not_decoded(name, tmp_path, monkeypatch):
    """Also in a program that lifted Pillow's own limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    file = tmp_path / "image.jpg"
    file.write_bytes(HOSTILE[name])
    with pytest.raises(OSError, match="Save a smaller copy") as refusal:
        read_image(file)
    assert isinstance(refusal.value.__cause__, TooLarge)


OTHERS = {
    "a PDF": b"%PDF-1.7",
    "an SVG": b'\n<svg xmlns="http://www.w3.org/2000/svg">',
    "XML, perhaps an SVG": b'\xef\xbb\xbf<?xml version="1.0"?>',
    "a web page": b"<!DOCTYPE html><html>",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0mif1avif",
    "a video": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "DICOM": bytes(128) + b"DICM\2\0",
    "a TIFF of channels, depth or packing": tiff(np.zeros((4, 4, 5), np.uint8)),
    "not an image": b"hello",
    "the file is empty": b"",
}


@pytest.mark.parametrize(("kind", "content"), OTHERS.items(), ids=OTHERS)
def test_other_files_are_called_what_they_are(kind, content, tmp_path):
    file = tmp_path / "image.jpg"
    file.write_bytes(content)
    with pytest.raises(OSError, match=rf"image\.jpg' \(.*{kind}.*convert it to PNG") as refusal:
        read_image(file)
    assert isinstance(refusal.value.__cause__, NotAnImage)


def test_no_program_is_started(tmp_path, monkeypatch):
    """Pillow gives PostScript, whatever its name, to Ghostscript."""
    marker, program = tmp_path / "owned", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = tmp_path / "image.jpg"
    file.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(OSError, match=r"image\.jpg"):
        read_image(file)
    assert not marker.exists()
