"""Unpack zip and tar archives that may come from anyone."""

from __future__ import annotations

import errno
import gzip
import lzma
import platform
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dassl.utils import what_it_is
from datasets._splits import is_inside

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_RATIO = 200  # unpacked bytes per archive byte: images hardly shrink, lists about 30-fold
ALWAYS_ALLOWED = 16 << 20  # unpacked bytes that are no bomb, whatever the ratio
MEMBER = 4096  # bytes that a member takes on a disk beside its content
LONGEST_HEADER = 1 << 22  # bytes: a tar may declare names of any length
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile),
    *(zlib.error, lzma.LZMAError, EOFError),
)


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(archive: Path, into: Path, size: int | None = None) -> None:
    """Unpack into the new directory `into`; after an error it is gone again.

    size: bytes that were downloaded, where `archive` itself was in another archive

    ValueError for a damaged archive, a member or link that would leave the directory, a device,
    an encrypted file, and for one that unpacks to far more than its size.
    """
    budget = max(ALWAYS_ALLOWED, MAX_RATIO * (archive.stat().st_size if size is None else size))
    into.mkdir(parents=True)
    try:
        kind = _unpack_zip if zipfile.is_zipfile(archive) else _unpack_tar
        kind(archive, into, budget)
    except BaseException as error:
        shutil.rmtree(into)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"{archive} was not unpacked: {error.strerror}") from error
        if isinstance(
            error, (ValueError, RuntimeError, getattr(tarfile, "FilterError", ValueError))
        ):
            raise ValueError(f"{archive} was not unpacked: {error}") from error
        if isinstance(error, _DAMAGED):
            damaged = f"damaged or cut short ({error}); get it again"
            what = what_it_is(archive, archive=True) or damaged
            raise ValueError(f"{archive} is {what}") from error
        raise


def _unpack_zip(archive: Path, into: Path, budget: int) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in _bounded(file.infolist(), "file_size", budget):
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where no Unix made the archive
            if not is_inside(member.filename) or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"its member {member.filename!r} is a link or leads out")
            file.extract(member, into)


def _unpack_tar(archive: Path, into: Path, budget: int) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise ValueError(
            f"Python {platform.python_version()} has no safe way to unpack a tar archive: take "
            "Python 3.10.12, 3.11.4 or newer"
        )
    with _Tar.open(archive) as file:
        for member in _bounded(file, "size", budget):
            file.extract(member, into, filter=_downwards)


class _Tar(tarfile.TarFile):
    """One that reads at most LONGEST_HEADER at once, since it keeps headers in memory."""

    def __init__(self, name: Any = None, mode: Any = "r", fileobj: Any = None, **options: Any):
        fileobj = fileobj or open(name, "rb")  # noqa: SIM115
        try:
            bounded: Any = _Bounded(fileobj)
            super().__init__(name, mode, fileobj=bounded, **options)
        except BaseException:
            fileobj.close()
            raise
        self._extfileobj = False  # it is closed with the archive


class _Bounded:
    def __init__(self, file: Any) -> None:
        self.file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, count: int) -> Any:
        if not 0 <= count <= LONGEST_HEADER:
            raise ValueError(f"it declares a header of {count:,} bytes")
        return self.file.read(count)


def _bounded(members: Iterable[Any], size: str, budget: int) -> Iterator[Any]:
    """The members, while their sizes, as the archive gives them and reads no further, are few."""
    for member in members:
        budget -= getattr(member, size) + MEMBER
        if budget < 0:
            raise ValueError("it unpacks to far more than its own size, as a bomb does")
        yield member


def _downwards(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Python's own filter, and no link upwards: before 2025 one link could lead another out."""
    upwards = member.linkname.startswith("/") or ".." in member.linkname.split("/")
    if not is_inside(member.name) or ((member.issym() or member.islnk()) and upwards):
        raise ValueError(f"its member {member.name!r} is a link upwards or leads out")
    return tarfile.data_filter(member, folder)


def find_by_end(folder: Path, end: str) -> Path | None:
    """The least deep file or directory below `folder` whose path ends with `end`."""
    paths = (path for path in folder.rglob(end) if not path.is_symlink())
    found = [path for path in paths if "__MACOSX" not in path.parts]
    return min(found, key=lambda path: (len(path.parts), path), default=None)
