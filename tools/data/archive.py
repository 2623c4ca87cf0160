"""Unpacks zip and tar archives that strangers made: nothing lands outside the folder given."""

from __future__ import annotations

import gzip
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from dassl.utils import what_it_is
from datasets._splits import is_inside

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_RATIO = 200  # unpacked bytes per archive byte: pictures hardly shrink, lists about 30-fold
ALWAYS_ALLOWED = 16 << 20  # unpacked bytes that are no bomb, whatever the ratio
BYTES_PER_MEMBER = 64  # of the archive: a zip needs more, and so does a picture in a tar
FEW_MEMBERS = 10_000  # that are no bomb, however small the archive
CHUNK = 1 << 20
LONGEST_HEADER = 1 << 22  # bytes: a tar may declare names of any length
PATH_MAX = 4096


class Member(NamedTuple):
    name: str
    kind: str  # "file", "folder", "link" or "device"
    open: Callable[[], IO[bytes] | None] | None = None  # for files
    target: str = ""  # of a link, relative to the archive's top


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(archive: Path, into: Path, size: int | None = None) -> None:
    """Unpacks into the new folder `into`. After an error `into` is gone again.

    size: bytes of what was got, where that is not the archive itself but one that it was in

    ValueError for a damaged archive and for one with a member that would leave the folder, a
    device, an encrypted file, or that unpacks to far more than it is.
    """
    size = archive.stat().st_size if size is None else size
    into.mkdir(parents=True)
    try:
        with _opened(archive) as members:
            few = _counted(members, max(FEW_MEMBERS, size // BYTES_PER_MEMBER))
            _write_members(few, into, max(ALWAYS_ALLOWED, MAX_RATIO * size))
    except BaseException as error:
        shutil.rmtree(into)
        if isinstance(error, _DAMAGE):
            damaged = f"damaged or cut short ({error}); get it again"
            what = what_it_is(archive, archive=True) or damaged
            raise ValueError(f"{archive} is {what}") from error
        if isinstance(error, ValueError):
            raise ValueError(f"{archive} was not unpacked: {error}") from error
        raise


_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
)


def _counted(members: Iterator[Member], most: int) -> Iterator[Member]:
    for number, member in enumerate(members, 1):
        if number > most:
            raise ValueError(f"it has more than {most:,} members, far more than its size explains")
        yield member


def _write_members(members: Iterator[Member], into: Path, budget: int) -> None:
    links = []
    for member in members:
        if not is_inside(member.name):
            raise ValueError(f"its member {member.name!r} would leave the folder")
        path = into / member.name
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
        elif member.kind == "file":
            path.parent.mkdir(parents=True, exist_ok=True)
            budget -= _write_file(member, path, budget)
        elif member.kind == "link":
            links.append(member)
        else:
            raise ValueError(f"its member {member.name!r} is a device or a pipe")
    for link in links:  # last, and as plain files: nothing is ever written through a link
        _copy_target(link, into)


def _write_file(member: Member, path: Path, budget: int) -> int:
    """Bytes written; ValueError as soon as there are more than `budget`."""
    written = 0
    with member.open() as source, open(path, "wb") as file:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > budget:
                raise ValueError("it unpacks to far more than its own size, as a bomb does")
            file.write(chunk)
    return written


def _copy_target(link: Member, into: Path) -> None:
    target = posixpath.normpath(link.target)
    if not is_inside(target):
        raise ValueError(f"its link {link.name!r} leads out of the folder, to {link.target!r}")
    if not (into / target).is_file():
        raise ValueError(f"its link {link.name!r} leads to {link.target!r}, which is no file in it")
    path = into / link.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.link(into / target, path)


# ---------------------------------------------------------------- the two kinds of archive


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield _zip_members(file)
    else:
        with _Tar.open(archive) as file:
            yield _tar_members(file)


class _Tar(tarfile.TarFile):
    """One that never reads more than LONGEST_HEADER at once: it keeps headers in memory."""

    def __init__(self, name: str | None = None, mode: str = "r", fileobj=None, **options):
        fileobj = fileobj or open(name, "rb")  # noqa: SIM115
        try:
            super().__init__(name, mode, fileobj=_Bounded(fileobj), **options)
        except BaseException:
            fileobj.close()
            raise
        self._extfileobj = False  # it is closed with the archive


class _Bounded:
    def __init__(self, file: IO[bytes]):
        self.file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, count: int) -> bytes:
        if not 0 <= count <= LONGEST_HEADER:
            raise ValueError(f"it declares a header of {count:,} bytes")
        return self.file.read(count)


def _zip_members(file: zipfile.ZipFile) -> Iterator[Member]:
    for info in file.infolist():
        mode = info.external_attr >> 16  # as the Unix that made the archive had it; else 0
        if info.flag_bits & 1:
            raise ValueError(f"its member {info.filename!r} is encrypted")
        if stat.S_ISLNK(mode):
            with file.open(info) as stream:
                target = stream.read(PATH_MAX).decode("utf-8", "replace")
            yield Member(info.filename, "link", None, _beside(info.filename, target))
        elif info.is_dir():
            yield Member(info.filename, "folder")
        else:
            regular = stat.S_IFMT(mode) in (0, stat.S_IFREG)
            yield Member(info.filename, "file" if regular else "device", partial(file.open, info))


def _tar_members(file: tarfile.TarFile) -> Iterator[Member]:
    for info in file:
        if info.issym():
            yield Member(info.name, "link", None, _beside(info.name, info.linkname))
        elif info.islnk():
            yield Member(info.name, "link", None, info.linkname)
        elif info.isdir():
            yield Member(info.name, "folder")
        else:
            kind = "file" if info.isreg() else "device"
            yield Member(info.name, kind, partial(file.extractfile, info))


def _beside(name: str, target: str) -> str:
    """A symbolic link's target, from the archive's top on."""
    return posixpath.join(posixpath.dirname(name), target)


# ---------------------------------------------------------------- finding things in what came out


def find_by_end(folder: Path, end: str) -> Path | None:
    """The least deep file or folder under `folder` whose path ends with `end`."""
    wanted = PurePosixPath(end).parts
    found = [
        path for path in _walk(folder) if path.relative_to(folder).parts[-len(wanted) :] == wanted
    ]
    return min(found, key=lambda path: (len(path.parts), path), default=None)


def _walk(folder: Path) -> Iterator[Path]:
    for top, folders, files in os.walk(folder):
        if "__MACOSX" in folders:  # finder data with the same names as the real files
            folders.remove("__MACOSX")
        yield from (Path(top, name) for name in folders + files)
