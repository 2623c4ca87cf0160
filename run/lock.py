"""One run at a time in an output folder."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None

NAME = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[int] = set()


@contextmanager
def output_lock(directory: Path) -> Iterator[int | None]:
    """Hold a folder, which is made if need be.

    The lock is the kernel's: it ends with the process, however that ends. The file `.lock` says
    who holds it. On a network disk it also holds between machines where the disk passes `flock`
    on, as NFS does unless it is mounted with `nolock` or `local_lock`; where there are no locks
    at all, that is said, and the run goes on.

    Gives the open file, which holds the lock as long as any process has it; None without locks.

    Raises ValueError naming the holder if there is another, and OSError for a folder that cannot
    be written to.
    """
    handle = _take(directory)
    try:
        yield handle
    finally:
        if handle is not None:
            _held.discard(handle)
            (directory / NAME).unlink(missing_ok=True)
            os.close(handle)


def lock_holder(directory: Path) -> str | None:
    """Who holds a folder, in the holder's words; None if nobody does."""
    path = directory / NAME
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return os.read(handle, 1000).decode(errors="replace").strip() or "another run"
    except OSError:  # a disk without locks
        return None
    finally:
        os.close(handle)


def _take(directory: Path) -> int | None:
    path = directory / NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = _open_locked(path)
        while not _is_current(handle, path):  # the run before removed it a moment ago
            os.close(handle)
            handle = _open_locked(path)
        _sign(handle, path)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            path.unlink(missing_ok=True)
            print(f"{directory} is on a disk without locks: see to it that one run uses it")
            return None
        raise OSError(
            f"the output folder {directory} cannot be written to ({error.strerror}); choose "
            "another --output-dir"
        ) from error
    _held.add(handle)
    return handle


def _open_locked(path: Path) -> int:
    """ValueError naming the holder if another has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            _lock(handle)
    except BlockingIOError:
        holder = os.read(handle, 1000).decode(errors="replace").strip() or "another run"
        os.close(handle)
        raise ValueError(
            f"{path.parent} is in use by {holder}. Wait until it has ended, or choose another "
            "--output-dir"
        ) from None
    except OSError:
        os.close(handle)
        raise
    return handle


def _lock(handle: int, tries: int = 5) -> None:
    """BlockingIOError if another process has it; one that only looks has it for an instant."""
    for _ in range(tries):
        with suppress(BlockingIOError):
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sign(handle: int, path: Path) -> None:
    """Say in the file who holds it; where that fails, nobody does."""
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}, {_now()}\n".encode())
    except OSError:
        path.unlink(missing_ok=True)
        os.close(handle)
        raise


def _is_current(handle: int, path: Path) -> bool:
    """Whether `path` still is the file that was opened."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _now() -> str:
    return time.strftime("started %Y-%m-%d %H:%M:%S")


def _let_go() -> None:
    """A worker of a loader that outlives a killed run for seconds must not hold its folder."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
