"""One run at a time in an output directory.

Not `filelock`: its lock cannot be inherited by a child process, does not name the process that
holds it, cannot be looked at without taking it, and on a disk without `flock` becomes a file that
a killed process leaves behind.
"""

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
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[int] = set()


@contextmanager
def output_lock(directory: Path) -> Iterator[int | None]:
    """Lock a directory, which is made if need be, with the kernel's `flock`.

    The lock ends with the process, however that ends; the file `.lock` says who holds it. It holds
    between machines where a network disk passes `flock` on (NFS without `nolock` and
    `local_lock`); on a disk without locks that is said, and the run goes on.

    Yields the open file, which holds the lock as long as any process has it; None without locks.

    Raises ValueError naming the holder if there is another, and OSError for a directory that
    cannot be written to.
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
    """The process that holds a directory, as its lock file says; None if nobody does."""
    try:
        handle = os.open(directory / NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _holder(handle)
    except OSError:  # a disk without locks
        return None
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    return os.read(handle, 1000).decode(errors="replace").strip() or "another run"


def _take(directory: Path) -> int | None:
    path = directory / NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = None
        while handle is None:  # the run before removed the file a moment ago
            handle = _open_locked(path)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            path.unlink(missing_ok=True)
            print(f"{directory} is on a disk without locks: see to it that one run uses it")
            return None
        raise OSError(
            f"the output directory {directory} cannot be written to ({error.strerror}); choose "
            "another --output-dir"
        ) from error
    _held.add(handle)
    return handle


def _open_locked(path: Path) -> int | None:
    """The locked and signed file; None if it was removed meanwhile; ValueError if it is held."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            _lock(handle)
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            _sign(handle, path)
            return handle
    except FileNotFoundError:
        pass
    except BlockingIOError:
        holder = _holder(handle)
        os.close(handle)
        raise ValueError(
            f"{path.parent} is in use by {holder}. Wait until it has ended, or choose another "
            "--output-dir"
        ) from None
    except OSError:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _lock(handle: int, tries: int = 5) -> None:
    """BlockingIOError if another process has it; one that only looks has it for an instant."""
    for _ in range(tries):
        with suppress(BlockingIOError):
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sign(handle: int, path: Path) -> None:
    """Say in the file who holds it; where that fails, nobody does."""
    now = time.strftime("started %Y-%m-%d %H:%M:%S")
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}, {now}\n".encode())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _let_go() -> None:
    """Close locks in a forked child: a loader's worker may outlive a killed run for seconds."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
