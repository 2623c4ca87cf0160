"""Signals that end a run: SIGTERM, SIGUSR1 and SIGUSR2, which schedulers send, SIGHUP, which a
terminal sends when it is closed, and Ctrl-C.

They act at once, except within `defer_signals`: there they are noted, and whoever works there asks
`stop_requested` when nothing is half done, saves, and calls `stop`. Several processes of one run
agree first (`sync_stop_flag`), so that all of them stop at the same place.
"""

import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from .distributed import all_reduce_max, is_main, world_size

EXIT_STOPPED = 75  # sysexits.h: a temporary failure, to be tried again
_NAMES = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT")  # not all systems have them all
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_MAY_BE_IGNORED = {signal.SIGINT, getattr(signal, "SIGHUP", None)}


class Stopped(SystemExit):
    """A run was stopped by a signal; the same command continues it. Its code is EXIT_STOPPED."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_STOPPED)
        self.message = message

    def __str__(self) -> str:
        return self.message


class _State:
    """Of this process. Forked children, such as loaders' workers, have the parent's in `pid`."""

    pid: int | None = None  # the process that listens; None: nobody does
    patient = False
    received: int | None = None
    agreed: int | None = None  # what all processes of the run know of; of one process: `received`
    asks = False  # within `immediate_signals` of several processes


@contextmanager
def stop_signals() -> Iterator[None]:
    """Listen to the signals: they raise `Stopped`, and Ctrl-C raises KeyboardInterrupt.

    Within another `stop_signals`, or off the main thread, it does nothing. Why the run was
    stopped is printed at the end of the outermost.
    """
    if _State.pid == os.getpid() or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _reset(os.getpid())
    try:
        for number, handler in before.items():
            # a shell lets its background jobs ignore Ctrl-C, nohup SIGHUP: so it shall stay
            if number not in _MAY_BE_IGNORED or handler is not signal.SIG_IGN:
                signal.signal(number, _on_signal)
        yield
    except Stopped as stopped:
        if is_main():
            print(stopped, file=sys.stderr)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _reset(None)


def _reset(pid: int | None) -> None:
    _State.pid, _State.patient, _State.asks = pid, False, False
    _State.received = _State.agreed = None


@contextmanager
def defer_signals() -> Iterator[None]:
    """Note signals only; one that was not acted upon stops the run at the end."""
    with _patience(True):
        yield
    if not _State.patient and _State.received is not None:
        stop()


@contextmanager
def immediate_signals() -> Iterator[None]:
    """Within `defer_signals`, let signals act at once again.

    Several processes stop together where they call `stop_if_requested`.
    """
    _State.asks = world_size() > 1
    try:
        with _patience(_State.asks):
            if stop_requested():
                stop()
            yield
    finally:
        _State.asks = False


@contextmanager
def _patience(patient: bool) -> Iterator[None]:
    before, _State.patient = _State.patient, patient
    try:
        yield
    finally:
        _State.patient = before


def stop_requested() -> bool:
    """Say whether a signal came; quick enough to be asked after every step."""
    return _State.agreed is not None


def sync_stop_flag(due: bool = False) -> bool:
    """Synchronize the stop flag across ranks. Collective.

    Returns:
        `due` of rank 0.
    """
    if world_size() == 1:
        return due
    number, due_in_main = all_reduce_max(_State.received or 0, int(due and is_main()))
    _State.agreed = number or None
    return bool(due_in_main)


def stop_if_requested() -> None:
    """Within `immediate_signals`, stop all processes together if a signal came. Collective."""
    if _State.asks:
        sync_stop_flag()
        if stop_requested():
            stop()


def stop(where: str = "") -> NoReturn:
    """End the run as the signal wants it; `where` says up to where everything is saved.

    Raises:
        KeyboardInterrupt: it was Ctrl-C.
        Stopped: it was another.
    """
    number = signal.Signals(_State.agreed or _State.received or signal.SIGTERM)
    saved = f", saved up to {where}" if where else ""
    if number == signal.SIGINT:
        raise KeyboardInterrupt(f"interrupted{saved}: the same command continues")
    raise Stopped(f"stopped by {number.name}{saved}: the same command continues")


def ignore_stop_signals(worker: int = 0) -> None:
    """Leave the signals to the main process. They reach loaders' workers too when they are sent
    to a group of processes, as Ctrl-C is; `worker` is a number that loaders give."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> Any:
    if _State.pid != os.getpid():  # a worker that was forked a moment ago
        return
    first = _State.received is None
    if number == getattr(signal, "SIGHUP", None):
        _leave_terminal()
    if first:
        _State.received = number
        if world_size() == 1:
            _State.agreed = number
    # schedulers may send several, to the script and to us: the first one does
    if (first and not _State.patient) or (number == signal.SIGINT and not first):
        stop()
    if number == signal.SIGINT and is_main():  # print is not allowed here
        with suppress(OSError):
            os.write(2, b"\nfinishing this step and saving; Ctrl-C again stops without saving\n")


def _leave_terminal() -> None:
    """Print into nothing where the terminal is gone: an error of that must not stop the saving."""
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):  # isatty says no by now
                os.dup2(null, number)
    os.close(null)
