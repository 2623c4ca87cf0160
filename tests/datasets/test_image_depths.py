"""Which numbers images become: all modes and depths, in training and prediction alike."""

import io
import json
import re
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train
from dassl.utils import read_image
from dassl.utils.images import UnknownDepth, as_rgb
from tests.helpers.image_files import gradient, packed_12_bits, png16, tiff
from tests.helpers.toy_run import CLASSES, command, refused

REPO = Path(__file__).parents[2]
G = gradient()
G16 = G.astype(np.uint16) * 257
COLORS = np.stack([G, G[::-1], G[:, ::-1]], axis=-1)


def saved(kind: str, mode: str, **options) -> bytes:
    image = Image.fromarray(COLORS)
    if mode == "LAB":
        image = Image.merge("LAB", image.split())
    stream = io.BytesIO()
    image.convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def frames(kind: str) -> bytes:
    """The colors, then another image."""
    return saved(kind, "RGB", save_all=True, append_images=[Image.new("RGB", (64, 64), "red")])


def bmp16(level: int) -> bytes:
    """A dark one of 5 bits a channel."""
    rows = np.full((64, 64), level >> 3, "<u2").tobytes()
    sizes = struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, 16, 0, len(rows), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + sizes + rows


EIGHT = {
    **{f"{mode} PNG": saved("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    **{f"{mode} JPEG": saved("JPEG", mode) for mode in ("L", "RGB", "CMYK", "YCbCr")},
    **{f"{mode} GIF": saved("GIF", mode) for mode in ("1", "L", "P", "RGB")},
    **{f"{mode} BMP": saved("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")},
    **{f"{mode} WebP": saved("WEBP", mode) for mode in ("L", "RGB", "RGBA")},
    **{f"{mode} PPM": saved("PPM", mode) for mode in ("1", "L", "RGB")},
    **{
        f"{mode} TIFF": saved("TIFF", mode)
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB")
    },
    "BMP of 16 bits a pixel": bmp16(8),
    "progressive JPEG": saved("JPEG", "RGB", progressive=True),
    "packed TIFF": saved("TIFF", "RGB", compression="tiff_lzw"),
    "big TIFF": saved("TIFF", "RGB", big_tiff=True),
    "one transparent color": saved("PNG", "RGB", transparency=(0, 126, 126)),
    "one transparent entry": saved("PNG", "P", transparency=3),
    "transparent entries": saved("PNG", "P", transparency=bytes(range(256))),
    "profile": saved("PNG", "RGB", icc_profile=b"a profile"),
    **{f"{kind} of frames": frames(kind) for kind in ("GIF", "WEBP", "PNG", "TIFF")},
}


@pytest.mark.parametrize("content", EIGHT.values(), ids=EIGHT)
def test_eight_bits_are_what_pillow_makes(content, tmp_path):
    """As the published code reads the benchmark."""
    file = tmp_path / "image.jpg"
    file.write_bytes(content)
    with Image.open(file) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(image.convert("RGB"))
    for found in (read_image(file), opened(file)):
        assert found.mode == "RGB" and np.array_equal(found, expected)


def opened(file: Path) -> Image.Image:
    """What becomes of a PIL image that someone opened."""
    with Image.open(file) as image:
        return as_rgb(image)


def gray(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 3, axis=-1)


COLORS16 = COLORS.astype(np.uint16) * 257
OPAQUE = np.full_like(G16, 65535)
DEEP = {
    "PNG": (png16(G16), gray(G)),
    "PNG of odd lower bytes": (png16(G.astype(np.uint16) * 256 + 255 - G), gray(G)),
    "PNG, all black": (png16(G16 * 0), gray(G * 0)),
    "PNG with transparency": (png16(np.stack([G16, OPAQUE], axis=-1)), gray(G)),
    "color PNG": (png16(COLORS16), COLORS),
    "color PNG with transparency": (png16(np.dstack([COLORS16, OPAQUE])), COLORS),
    "TIFF": (tiff(G16), gray(G)),
    "big-endian TIFF": (tiff(G16, byte_order=">"), gray(G)),
    "TIFF with 0 for white": (tiff(G16, photometric=0), gray(255 - G)),
    "color TIFF": (tiff(COLORS16, photometric=2), COLORS),
    "color TIFF with transparency": (
        tiff(np.dstack([COLORS16, OPAQUE]), photometric=2, tags={338: 2}),
        COLORS,
    ),
    "TIFF of 12 bits": (tiff(packed_12_bits(G16 >> 4), 12, tags={256: 64}), gray(G)),
    "TIFF with colors times transparency": (
        tiff(np.stack([G, OPAQUE.astype(np.uint8)], axis=-1), tags={338: 1}),
        gray(G),
    ),
    "PGM": (b"P5 64 64 65535\n" + G16.astype(">u2").tobytes(), gray(G)),
    "PGM of 12 bits": (b"P5 64 64 4095\n" + (G16 >> 4).astype(">u2").tobytes(), gray(G)),
    "dark PGM of 12 bits": (b"P5 64 64 4095\n" + (G16 >> 8).astype(">u2").tobytes(), gray(G >> 4)),
    "PPM": (b"P6 64 64 65535\n" + COLORS16.astype(">u2").tobytes(), COLORS),
}


@pytest.mark.parametrize(("content", "expected"), DEEP.values(), ids=DEEP)
def test_depths_that_the_format_knows(content, expected, tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(content)
    assert np.array_equal(read_image(file), expected)
    assert np.array_equal(opened(file), expected)


LESS = G.astype(np.uint16) * 16  # 12 bits in 16
PROGRAM, MAKER = "docs/DATASETS.md", "by the program that made it"
UNCERTAIN = {
    "12 bits in a PNG of 16": (png16(LESS), r"mode I(;16)?, values 0 to 4032: .*10 to 14", PROGRAM),
    "14 bits in a TIFF of 16": (
        tiff(G16 >> 2),
        r"mode I;16, values 0 to 16191: .*10 to 14",
        PROGRAM,
    ),
    "12 bits in a PGM of 16": (
        b"P5 64 64 65535\n" + LESS.astype(">u2").tobytes(),
        "mode I, values 0 to 4032: .*10 to 14",
        PROGRAM,
    ),
    "12 bits in colors of 16": (png16(gray(LESS)), "mode RGB, values 0 to 4095: ", MAKER),
    "12 bits in colors of a TIFF": (
        tiff(gray(LESS), photometric=2),
        "mode RGB, values 0 to 40",
        MAKER,
    ),
    "12 bits in colors of a PPM": (
        b"P6 64 64 65535\n" + gray(LESS).astype(">u2").tobytes(),
        "mode RGB, values 0 to 4351: ",
        MAKER,
    ),
    "32 bits": (tiff(G16.astype(np.uint32)), "mode I, values 0 to 64764: ", PROGRAM),
    "all of 32 bits": (tiff(G.astype(np.uint32) << 24), "mode I, values 0 to 42278", MAKER),
    "signed 32 bits": (tiff(G.astype(np.int32) - 9, kind=2), "mode I, values -9 to 243: ", PROGRAM),
    "signed 16 bits": (tiff(G.astype(np.int16) - 9, kind=2), "mode I, values -9 to 243: ", PROGRAM),
    "signed 8 bits": (
        tiff((G >> 1).astype(np.int8) - 9, kind=2),
        "mode L, values -9 to 117: ",
        MAKER,
    ),
    "floats to 1": (tiff(np.float32(G / 255), kind=3), r"mode F, values 0 to 0\.988", PROGRAM),
    "floats to 255": (tiff(np.float32(G), kind=3), "mode F, values 0 to 252: ", PROGRAM),
    "no numbers": (tiff(np.float32(G) * np.nan, kind=3), "mode F, no values: ", PROGRAM),
    "floats as PFM": (
        b"Pf\n64 64\n-1.0\n" + np.float32(G).tobytes(),
        "mode F, values 0 to",
        PROGRAM,
    ),
}


@pytest.mark.parametrize(("content", "says", "remedy"), UNCERTAIN.values(), ids=UNCERTAIN)
def test_uncertain_depths_are_refused(content, says, remedy, tmp_path):
    file = tmp_path / "scan.tif"
    file.write_bytes(content)
    with pytest.raises(OSError, match=rf"scan\.tif' \({says}.*{remedy}.*take it out") as got:
        read_image(file)
    assert isinstance(got.value.__cause__, UnknownDepth)
    with pytest.raises(UnknownDepth, match=says):
        opened(file)


@pytest.fixture
def own(tmp_path, toy):
    """The arguments of a run of own images, one of which, a test image, has 12 bits."""
    for name in CLASSES[:2]:
        images = toy / "colored_shapes" / "images" / name.replace(" ", "_")
        shutil.copytree(images, tmp_path / "own" / name)
    names = [file.name for file in sorted((tmp_path / "own" / CLASSES[0]).iterdir())]
    parts = {"train": slice(0, 4), "val": slice(4, 6), "test": slice(6, None)}
    rows = {
        part: [[f"{c}/{n}", i, c] for i, c in enumerate(CLASSES[:2]) for n in names[which]]
        for part, which in parts.items()
    }
    (tmp_path / "own" / "split.json").write_text(json.dumps(rows))
    (tmp_path / "own" / rows["test"][-1][0]).write_bytes(png16(LESS))
    opts = ("DATASET.NAME", "ImageFolder", "DATASET.PATH", str(tmp_path / "own"), "TASK", "FS")
    opts += ("DATASET.SUBSAMPLE_CLASSES", "all", "DATALOADER.NUM_WORKERS", "1")
    return command(toy, "MMRL", tmp_path / "run", opts=opts), tmp_path / "own" / rows["test"][-1][0]


def test_a_run_that_meets_one_loses_nothing(own, tmp_path, capsys):
    arguments, bad = own
    message = refused(capsys, arguments)
    assert f"Cannot read the image '{bad}' (mode I" in message and message.count("\n") == 1
    weights = sorted(tmp_path.glob("run/*/model.pth.tar-2"))
    before = [file.stat().st_mtime_ns for file in weights]
    Image.fromarray(G).save(bad)
    assert train.main(arguments) == 0
    assert "epoch [" not in capsys.readouterr().out  # it only had to be tested
    assert before and before == [file.stat().st_mtime_ns for file in weights]


@pytest.mark.slow
def test_the_message_is_the_last_line(own):
    """Workers that are left when the run ends in an error say nothing."""
    program = [sys.executable, str(REPO / "train.py"), *own[0]]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: Cannot read the image")


def test_the_program_that_converts(tmp_path, monkeypatch):
    """What the message and the documentation advise, followed."""
    text = (REPO / "docs" / "DATASETS.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(import shutil\n.*?)```", text, re.DOTALL)
    source, target = tmp_path / "scans", tmp_path / "images"
    (source / "oak").mkdir(parents=True)
    (source / "oak" / "a.tif").write_bytes(tiff(G16.astype(np.uint32) >> 4))
    (source / "oak" / "b.png").write_bytes(png16(G16 >> 4))
    Image.fromarray(COLORS).save(source / "oak" / "c.png")
    (source / "classnames.txt").write_text("oak an oak")
    monkeypatch.setattr(sys, "argv", ["to_8_bits.py", str(source), str(target), "0", "4095"])
    exec(compile(program, "to_8_bits.py", "exec"), {})
    assert {file.name for file in target.rglob("*.*")} == {
        *("a.tif.png", "b.png.png", "c.png", "classnames.txt")
    }
    assert np.array_equal(read_image(target / "oak" / "c.png"), COLORS)
    for name in ("a.tif.png", "b.png.png"):
        assert np.abs(np.asarray(read_image(target / "oak" / name), int) - gray(G)).max() <= 1
