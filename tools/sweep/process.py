"""Runs train.py as a child process, and passes on the signals that this process gets."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from tools.sweep.protocols import REPO

PR_SET_PDEATHSIG = 1  # of Linux's prctl
STOPPED, INTERRUPTED = 75, 130  # exit codes of train.py
NAMES = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


def interpreter() -> str:
    """The Python of the runs: $PYTHON, if it is set."""
    return os.environ.get("PYTHON") or sys.executable


def train_command(arguments: Sequence[str]) -> list[str]:
    return [interpreter(), str(REPO / "train.py"), *arguments]


def environment() -> dict[str, str]:
    """The environment of child processes that import this project."""
    path = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(REPO), path)))}


@contextmanager
def handle_signals(handler: Callable[[int], None]) -> Iterator[dict[int, Any]]:
    """Call `handler` for SIGNALS; yields the handlers before. Ignored ones stay so (nohup)."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, old in before.items():
        if old is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: handler(number))
    try:
        yield before
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


class Child:
    """Runs one command at a time, and passes on the first signal of this process.

    `on_signal` is to be installed with `handle_signals`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None  # the first one
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        output: IO[bytes] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        poll_s: float = 1.0,
        lock: int | None = None,
    ) -> int:
        """The exit code of a command, negative for the signal that killed it.

        It gets SIGTERM when `should_stop`, asked every `poll_s` seconds, says so, and when this
        process dies; it inherits the handle `lock`. Raises OSError if it cannot be started.
        """
        keep = [] if lock is None else [os.dup(lock)]  # the original is closed in whatever forks
        try:
            self._process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=keep,
                preexec_fn=_die_with(os.getpid()),
            )
        finally:
            for handle in keep:
                os.close(handle)
        try:
            return self._wait(should_stop, poll_s)
        finally:
            self._process = None

    def _wait(self, should_stop: Callable[[], bool], poll_s: float) -> int:
        assert self._process is not None
        if self.signal:  # came while the process was started
            self._pass_on(self.signal)
        told = False
        while True:
            try:
                return self._process.wait(poll_s)
            except subprocess.TimeoutExpired:
                if not told and (told := should_stop()):
                    self._pass_on(signal.SIGTERM)

    def on_signal(self, number: int) -> None:
        if self.signal is None:
            self.signal = number
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        """Signal the child; SIGTERM for SIGUSR2. The terminal sends Ctrl-C to both itself."""
        child = self._process
        if child is not None and number != signal.SIGINT and child.returncode is None:
            passed = signal.SIGTERM if number == getattr(signal, "SIGUSR2", None) else number
            with suppress(ProcessLookupError):
                os.kill(child.pid, passed)  # not send_signal, which may wait for a lock we hold


def _die_with(parent: int) -> Callable[[], None] | None:
    """Have a child get SIGTERM when its parent dies, even by SIGKILL.

    On Linux only, and not beside other threads, where nothing may be done between fork and exec.
    """
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return None
    prctl = ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # died a moment ago
            os._exit(STOPPED)

    return arrange
