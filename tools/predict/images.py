"""Images: found in directories, read by workers, and why some cannot be read."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.image_files import is_image
from dassl.data.loader import usable_cores
from dassl.utils import read_image
from dassl.utils.depth import UnknownDepth
from dassl.utils.images import NotAnImage, TooLarge, is_tilted

FEW = 64  # images for which starting workers takes longer than they save


class Skipped(NamedTuple):
    """An image that could not be used, and why."""

    path: str
    reason: str


def find_images(places: Sequence[str]) -> tuple[list[str], list[Skipped]]:
    """Files as they are given, directories with all images below them in the order of names."""
    found: list[str] = []
    skipped: list[Skipped] = []
    for place in places:
        if os.path.isdir(place):
            inside = list(_walk(place, skipped))
            found += inside
            if not inside:
                skipped.append(Skipped(place, "no images in this directory"))
        elif os.path.isfile(place):
            found.append(place)
        else:
            there = os.path.exists(place)
            skipped.append(Skipped(place, "neither file nor directory" if there else "not there"))
    return found, skipped


def _walk(folder: str, skipped: list[Skipped]) -> Iterator[str]:
    """Images by their suffix; hidden files and directories are left out, links are followed."""

    def note(error: OSError) -> None:
        skipped.append(Skipped(str(error.filename), str(error.strerror)))

    seen = set()
    for inside, folders, files in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(inside)
        folders[:] = sorted(name for name in folders if name[0] != "." and real not in seen)
        if real not in seen:  # else a link to where we were
            yield from (os.path.join(inside, name) for name in sorted(files) if is_image(name))
        seen.add(real)


class Read(NamedTuple):
    """An image as a tensor (3, H, W), or the reason why it could not be read.

    tilted: whether it has an EXIF orientation that was ignored
    """

    image: Tensor | str
    tilted: bool = False


class _Images(Dataset[Read]):
    def __init__(
        self, paths: Sequence[str], transform: Callable[[Image.Image], Tensor], upright: bool
    ):
        self.paths = paths
        self.transform = transform
        self.upright = upright

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Read:
        try:
            image = read_image(self.paths[index], self.upright)
            return Read(self.transform(image), not self.upright and is_tilted(image))
        except Exception as error:  # whatever a damaged file provokes
            return Read(reason(error))


def batches(
    paths: Sequence[str],
    transform: Callable[[Image.Image], Tensor],
    batch_size: int,
    upright: bool,
    workers: int | None = None,
) -> Iterator[list[Read]]:
    """Read images, `batch_size` at a time, in order.

    upright: turn them as their EXIF orientation says
    workers: processes that read; by default none for few images, else one for each core up to 8
    """
    if workers is None:
        workers = min(8, usable_cores()) if len(paths) > FEW else 0
    images = _Images(paths, transform, upright)
    yield from DataLoader(images, batch_size, num_workers=workers, collate_fn=list)


def reason(error: Exception) -> str:
    """Why an image could not be read, in a few words."""
    cause = error.__cause__ or error
    if isinstance(cause, NotAnImage):
        return str(cause)
    if isinstance(cause, UnknownDepth):
        return f"refused for its depth: {cause}. {cause.remedy}"
    if isinstance(cause, TooLarge | Image.DecompressionBombError):
        return f"refused for its size: {cause}"
    if isinstance(cause, FileNotFoundError | PermissionError):
        return cause.strerror or str(cause)
    return f"damaged: {cause}"
