"""Files that are written whole or not at all, and room for them."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from .tools import StrPath

MB = 10**6


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path`, see it to the disk, and put it in place of `path`.

    A kill or a power failure at any moment leaves the old file or the new one.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch.save says RuntimeError for a full disk
        part.unlink(missing_ok=True)
        raise _not_written(path, error) from error
    _sync_folder(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove what killed writers left in `folder`."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def check_room(folder: Path, size: int, needed: int) -> None:
    """Find out whether files can be written to `folder`, by making two.

    Args:
        folder: it is made if it is not there.
        size: bytes of one file.
        needed: bytes of all files that will be there at a time.

    Raises:
        OSError: the folder cannot be written to, or has too little room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(
                f"too little room in {folder}: {free / MB:.1f} MB are free, and the checkpoints of "
                f"this run take {needed / MB:.1f} MB. Free some, or choose another OUTPUT_DIR"
            )
        _reserve([folder / f".room-{number}.part" for number in (1, 2)], size)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            f"{folder} takes no files of {size / MB:.1f} MB, as the checkpoints of this run are: "
            f"{error.strerror}. Make room or choose another OUTPUT_DIR"
        ) from error


def _reserve(paths: list[Path], size: int) -> None:
    try:
        for path in paths:
            with open(path, "wb") as file:
                _fill(file, size)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _fill(file: BinaryIO, size: int) -> None:
    try:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))  # sees quotas too, and writes nothing
    except (AttributeError, OSError) as error:  # there is none on this system or for this disk
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        file.write(bytes(size))


def _not_written(path: StrPath, error: Exception) -> OSError:
    folder = Path(path).parent
    why = error.strerror if isinstance(error, OSError) else None
    if why is None:
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        why = f"is the disk full? {free / MB:.1f} MB are free"
    return OSError(
        f"{path} could not be written ({why}). What was saved before is untouched: make room in "
        f"{folder} and start the same command again"
    )


def _sync_folder(folder: Path) -> None:
    """See the new name of a file to the disk, where folders can be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
