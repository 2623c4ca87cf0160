"""Which files are images, by their names."""

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff",
    ".gif",
)  # fmt: skip


def is_image(name: str) -> bool:
    """Whether a file looks like an image; hidden files do not."""
    return name.lower().endswith(IMAGE_SUFFIXES) and name[0] != "."
