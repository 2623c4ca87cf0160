"""Archives that data sets come in."""

import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

MOST_TIMES = 200  # unpacked bytes per byte of the archive; pictures hardly shrink
ALWAYS_ALLOWED = 1 << 24  # unpacked bytes, whatever the archive's size
MEMBER = 512  # bytes that each member counts for beside its content


def extract_archive(path: Path) -> None:
    """Unpack a zip or tar archive into the folder that holds it; nothing lands outside of it.

    Raises:
        ValueError: the file is neither, has members that would land outside, or would unpack to
            far more than its own size.
    """
    print(f"Extracting {path}")
    budget = max(ALWAYS_ALLOWED, MOST_TIMES * path.stat().st_size)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_sizes((info.file_size for info in archive.infolist()), budget)
                archive.extractall(path.parent)
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                _check_sizes((member.size for member in archive), budget)
                archive.extractall(path.parent, filter=_inside)
        else:
            raise ValueError(
                "it is neither a zip nor a tar archive: was an error page downloaded instead?"
            )
    except (ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{path} was not unpacked, or not wholly: {error} Delete it and try again."
        ) from error


def _inside(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Python's own filter, and no link upwards: before 2025 one link could lead another out."""
    upwards = member.linkname.startswith("/") or ".." in member.linkname.split("/")
    if (member.issym() or member.islnk()) and upwards:
        raise ValueError(f"its link {member.name!r} leads to {member.linkname!r}.")
    return tarfile.data_filter(member, folder)


def _check_sizes(sizes: Iterable[int], budget: int) -> None:
    for size in sizes:
        budget -= size + MEMBER
        if budget < 0:
            raise ValueError("it unpacks to far more than its own size.")
