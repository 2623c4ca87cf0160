"""Atomic writes: a file is written completely or not at all; and free space for files to come."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MB = 10**6


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a temporary file beside `path`, sync it, and move it to `path`.

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
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk
        part.unlink(missing_ok=True)
        raise _not_written(path, error) from error
    _sync_directory(path.parent)


def remove_partial_files(directory: Path) -> None:
    """Remove the temporary files that killed processes left in `directory`."""
    for part in directory.glob(".*.part"):
        part.unlink(missing_ok=True)


def check_free_space(directory: Path, size: int, needed: int) -> None:
    """Check that files can be written to `directory`, by reserving the space of one.

    Args:
        directory: it is made if it does not exist.
        size: bytes of one file.
        needed: bytes of all files that will exist at a time.

    Raises:
        OSError: the directory cannot be written to, or has too little space.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise OSError(
                f"too little room in {directory}: {free / MB:.1f} MB are free, and the checkpoints "
                f"of this run take {needed / MB:.1f} MB. Free some, or choose another OUTPUT_DIR"
            )
        _reserve(directory / ".room.part", size)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            f"{directory} takes no files of {size / MB:.1f} MB, as the checkpoints of this run "
            f"are: {error.strerror}. Make room or choose another OUTPUT_DIR"
        ) from error


def _reserve(path: Path, size: int) -> None:
    """Take the space of a file for a moment: this meets quotas too, and writes nothing."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not of this kind of disk
            raise
    finally:
        path.unlink(missing_ok=True)


def _not_written(path: Path, error: Exception) -> OSError:
    why = error.strerror if isinstance(error, OSError) else None
    if why is None:
        free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
        why = f"is the disk full? {free / MB:.1f} MB are free"
    return OSError(
        f"{path} could not be written ({why}). What was saved before is untouched: make room in "
        f"{path.parent} and start the same command again"
    )


def _sync_directory(directory: Path) -> None:
    """Sync the new name of a file to the disk, where directories can be opened."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
