"""How many bits the values of an image have, and what they are in 8."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image

PROGRAM = "Convert it to 8 bits (docs/DATASETS.md has a program that is told black and white)"
MAKER = "Save it with 8 bits a channel, by the program that made it"
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO = 0  # a value of PHOTOMETRIC


class UnknownDepth(OSError):
    """An image whose values do not say how dark they are; `remedy` is what to do."""

    def __init__(self, what: str, remedy: str):
        super().__init__(what)
        self.remedy = remedy


class Depth(NamedTuple):
    """Of a file's values.

    bits: of unsigned integers, a channel: up to 16; 0 where that is not what it holds
    has_room: whether 16 are kept, in which cameras put 10, 12 or 14, too
    """

    bits: int
    has_room: bool


def depth_of(image: "Image") -> Depth:
    """Return the depth of an image that is not loaded yet, or was made in Python."""
    return Depth(_bits(image), _has_room(image))


def eight_bits(image: "Image", depth: Depth) -> "Image":
    """Return a loaded image as 8-bit RGB, or raise UnknownDepth."""
    if depth.bits == 0:
        raise _unknown(image, "numbers of this kind do not say what is white")
    if depth.has_room and 0 < _highest(image) < 1 << 14:
        raise _unknown(image, "the upper 2 of 16 bits are not used, so it may have 10 to 14")
    if image.mode.startswith("I"):
        return _upper_bits(image, depth.bits)
    if image.mode in ("La", "RGBa"):  # multiplied by their transparency
        image = image.convert(image.mode.upper())
    # a palette with several transparent entries makes Pillow warn unless RGBA comes first
    if isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")
    return image.convert("RGB")


def _bits(image: "Image") -> int:
    tags = _tags(image)
    if tags:
        bits = max(tags.get(BITS, (1,)))
        return bits if bits <= 16 and _is_unsigned(tags) else 0
    if image.mode == "I":  # of PNG with old versions of Pillow; PPM is scaled by what it says
        return 16 if image.format in ("PNG", "PPM") else 0
    return 0 if image.mode == "F" else 16 if image.mode.startswith("I;16") else 8


def _tags(image: "Image") -> Any:
    """Of a TIFF by number; none of other formats."""
    return image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]


def _is_unsigned(tags: Any) -> bool:
    return set(tags.get(SAMPLE_FORMAT, (1,))) == {1}


def _has_room(image: "Image") -> bool:
    if not getattr(image, "tile", ()):  # loaded already, or made in Python
        return image.mode.startswith("I") and _bits(image) == 16
    packing = str([tile[3] for tile in image.tile[:1]])
    if image.format == "PPM":
        return "16B" in packing or "65535" in packing  # others say what is white
    if image.format in ("PNG", "TIFF"):
        return ";16" in packing
    return image.mode.startswith("I")


def _upper_bits(image: "Image", bits: int) -> "Image":
    import numpy as np
    from PIL import Image

    gray = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    if _tags(image).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        gray = 255 - gray  # Pillow does so with 8 bits
    return Image.fromarray(gray).convert("RGB")


def _highest(image: "Image") -> int:
    """The largest of all values; of colors, whose lower bytes Pillow drops, what it may be."""
    import numpy as np

    if image.mode.startswith("I"):
        return int(np.asarray(image).max())
    bands = zip(image.getbands(), image.split(), strict=True)
    return max(int(band.getextrema()[1]) for name, band in bands if name not in "Aa") * 256 + 255


def _unknown(image: "Image", why: str) -> UnknownDepth:
    import numpy as np

    values, remedy = np.asarray(image), PROGRAM
    if image.mode == "L":  # a TIFF's with signs, which Pillow overlooks
        values, remedy = values.view(np.int8), MAKER
    elif image.mode == "I" and _tags(image) and _is_unsigned(_tags(image)):
        values = values.view(np.uint32)
        remedy = PROGRAM if values.max() < 1 << 31 else MAKER
    elif image.mode != "F" and not image.mode.startswith("I"):
        values, remedy = np.array([0, _highest(image)]), MAKER
    values = values[np.isfinite(values)]
    span = f"values {values.min():.10g} to {values.max():.10g}" if values.size else "no values"
    return UnknownDepth(f"mode {image.mode}, {span}: {why}", remedy)
