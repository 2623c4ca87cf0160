"""Images as 8-bit RGB, from files that may come from anyone: what is uncertain is refused."""

import os
from typing import IO, TYPE_CHECKING

from .depth import UnknownDepth, depth_of, eight_bits

if TYPE_CHECKING:
    from PIL.Image import Image

# What images may be, whatever their name says. Of more that Pillow knows, one starts a program.
IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MOST_PIXELS = 89_478_485  # a quarter of a gigabyte as RGB
MOST_SCANNED = 32 * MOST_PIXELS  # pixels of all scans of a progressive JPEG
LARGE_TILE = 1 << 24  # pixels; a TIFF's tile may be larger than its image
# Tags of TIFF, the last of EXIF, too.
WIDTH, HEIGHT, STRIPS, SAMPLES, TILE_WIDTH, TILE_HEIGHT, TILES = 256, 257, 273, 277, 322, 323, 324
ORIENTATION = 274
# By the value of ORIENTATION, what turns the image upright: names in PIL.Image.Transpose.
TURNS = {
    **{2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"},
    **{6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"},
}
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # its first bytes
# What files are that are taken for images, by their first bytes.
OTHERS = {
    **{b"%PDF": "a PDF", b"%!PS": "PostScript", b"<svg": "an SVG", b"<?xml": "XML, perhaps an SVG"},
    **{b"<html": "a web page", b"<!doctype html": "a web page", b"8BPS": "of Photoshop"},
    **{b"version https://git-lfs": "a pointer of Git LFS", b"\0\0\0\x0cjP  ": "JPEG 2000"},
    **{b"\x89HDF": "HDF5", b"PK\3\4": "a zip archive", b"\x1f\x8b": "packed by gzip"},
}


class UnreadableImage(OSError):
    """What `read_image` raises, in one line also if it was in a worker of a loader."""

    def __init__(self, text: str):
        mine = f"\n{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(text.rpartition(mine)[2].rstrip())  # torch puts a traceback before it


class MissingImage(UnreadableImage, FileNotFoundError):
    """There is no such file."""


class TooLarge(OSError):
    """An image that would take more memory or time than photographs do; it is not decoded."""


class NotAnImage(OSError):
    """A file of another kind."""


def read_image(path: str | os.PathLike[str], upright: bool = False) -> "Image":
    """Read an image file as 8-bit RGB; of one with several frames the first.

    Images of up to 8 bits a channel are what Pillow's `convert("RGB")` makes of them; of 16 bits
    the upper 8 are taken. Transparency and color profiles are left out.

    Args:
        upright: turn the image as its EXIF orientation says.

    Raises:
        MissingImage: there is no such file.
        UnreadableImage: the file is NotAnImage, is cut short, is TooLarge (or causes Pillow's
            DecompressionBombError), or is of UnknownDepth; these are its cause.
    """
    place = repr(os.fspath(path))
    try:
        with open(path, "rb") as file, _opened(file) as image:
            return as_rgb(image, upright)
    except FileNotFoundError:
        raise MissingImage(f"No image at {place}") from None
    except Exception as error:  # a damaged or hostile file can raise nearly anything
        raise UnreadableImage(
            f"Cannot read the image {place} ({error}). {_remedy(error)}, or take it out of the "
            "data set."
        ) from error


def _remedy(error: Exception) -> str:
    from PIL.Image import DecompressionBombError

    if isinstance(error, UnknownDepth):
        return error.remedy
    if isinstance(error, TooLarge | DecompressionBombError):
        return "Save a smaller copy of it"
    also = ", convert it to PNG or JPEG" if isinstance(error, NotAnImage) else ""
    return f"Is it damaged? Fetch it again{also}"


def as_rgb(image: "Image", upright: bool = False) -> "Image":
    """Return an image that Pillow opened or made as 8-bit RGB; see `read_image`.

    Raises:
        UnknownDepth: its values do not say how dark they are.
    """
    from PIL.Image import Transpose

    depth = depth_of(image)  # which is not seen any more when it is loaded
    image.load()
    turn = _turn(image) if upright else None
    rgb = eight_bits(image, depth)
    return rgb.transpose(Transpose[turn]) if turn else rgb


def is_tilted(image: "Image") -> bool:
    """Whether a loaded image is to be turned, as its EXIF orientation says."""
    return _turn(image) is not None


def _turn(image: "Image") -> str | None:
    """What turns a loaded image upright, if anything; Pillow has turned a TIFF by itself."""
    try:
        return None if image.format == "TIFF" else TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # EXIF data that is damaged says nothing
        return None


def _what_it_is(head: bytes) -> str:
    """Say what a file is that Pillow does not take for an image, as far as its start tells."""
    if head.startswith(TIFF):
        return "a TIFF of channels, depth or packing that Pillow does not know"
    brand = head[8:10] if head[4:8] == b"ftyp" else b""  # what HEIC, AVIF and videos share
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kinds = [name for start, name in OTHERS.items() if text.startswith(start.lower())]
    kinds += ["DICOM"] if head[128:132] == b"DICM" else []
    kinds += [{b"av": "AVIF", b"he": "HEIC", b"mi": "HEIC"}.get(brand, "a video")] if brand else []
    what = f"it is {kinds[0]}" if kinds else "not an image" if head else "the file is empty"
    return f"{what}; read are {', '.join(IMAGE_FORMATS)}"


# Bounds


def _opened(file: IO[bytes]) -> "Image":
    """Open an image without decoding it; TooLarge for one that would cost more than it shows."""
    from PIL import Image, UnidentifiedImageError

    head = file.read(256)
    if head.startswith(TIFF):
        _check_tiff(file)
    file.seek(0)
    try:
        image = Image.open(file, formats=IMAGE_FORMATS)
    except UnidentifiedImageError as error:
        raise NotAnImage(_what_it_is(head)) from error
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise TooLarge(f"{image.width} x {image.height} pixels are too many")
    if image.info.get("progressive"):
        place = file.tell()
        file.seek(0)
        scans = file.read().count(b"\xff\xda")
        file.seek(place)
        if scans * pixels > MOST_SCANNED:
            raise TooLarge(f"{scans} scans of {image.width} x {image.height} pixels are too many")
    return image


def _check_tiff(file: IO[bytes]) -> None:
    """TooLarge for parts that are many more, or much larger, than the first page has pixels."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file.seek(0)
    head = file.read(8)
    tags = ImageFileDirectory_v2(head + (file.read(8) if b"+" in head[2:4] else b""))
    file.seek(tags.next)
    tags.load(file)
    width, height = int(tags[WIDTH]), int(tags[HEIGHT])
    tile = int(tags.get(TILE_WIDTH, width)) * int(tags.get(TILE_HEIGHT, 1))
    if tile > max(width * height, LARGE_TILE):
        raise TooLarge(f"tiles of {tile:,} pixels are too large")
    parts = max(len(tags.get(STRIPS, ())), len(tags.get(TILES, ())))
    if parts > height * (width if TILES in tags else 1) * int(tags.get(SAMPLES, 1)):
        raise TooLarge(f"{parts:,} parts of {width} x {height} pixels are too many")
