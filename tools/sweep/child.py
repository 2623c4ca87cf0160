"""One train.py as a child process that is ended by the signals that its parent gets."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO

from tools.sweep.protocols import REPO

PR_SET_PDEATHSIG = 1  # of Linux's prctl
STOPPED, INTERRUPTED = 75, 130  # exit codes of train.py
LISTEN = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT")
    if hasattr(signal, name)
)


def interpreter() -> str:
    """The Python of the runs: $PYTHON, if it is set."""
    return os.environ.get("PYTHON") or sys.executable


def command(arguments: Sequence[str]) -> list[str]:
    """How train.py is called."""
    return [interpreter(), str(REPO / "train.py"), *arguments]


class Children:
    """Runs commands one at a time; of the signals to this process it notes the first.

    A command that runs is asked to end with SIGTERM, whatever came: it saves, and exits with 75.
    """

    def __init__(self) -> None:
        self.signal: int | None = None  # that came
        self._child: subprocess.Popen | None = None

    @contextmanager
    def listening(self) -> Iterator[dict[int, object]]:
        """Listen to the signals; gives the handlers that did so before."""
        before = {number: signal.getsignal(number) for number in LISTEN}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as under nohup, or in the background of a shell
                signal.signal(number, self._on_signal)
        try:
            yield before
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def call(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str] | None = None,
        output: IO | None = None,
        look: Callable[[], bool] = lambda: False,
        every: float = 1.0,
        keep: Sequence[int] = (),
    ) -> int:
        """Exit code of a command, negative for the signal that killed it.

        `look` is asked every few seconds whether it is to be stopped; `keep` are files that it
        inherits. It is asked to end when this process dies. Raises OSError if it cannot be started.
        """
        self._child = subprocess.Popen(
            arguments,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=keep,
            preexec_fn=_die_with(os.getpid()),
        )
        try:
            if self.signal:  # came a moment ago
                self._ask(self.signal)
            asked = False
            while True:
                try:
                    return self._child.wait(every)
                except subprocess.TimeoutExpired:
                    if not asked and (asked := look()):
                        self._ask(signal.SIGTERM)
        finally:
            self._child = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            self._ask(number)

    def _ask(self, number: int) -> None:
        """Pass a signal on; Ctrl-C reaches both from the terminal."""
        child = self._child
        if child is not None and number != signal.SIGINT and child.returncode is None:
            passed = signal.SIGTERM if number == getattr(signal, "SIGUSR2", None) else number
            with suppress(ProcessLookupError):
                os.kill(child.pid, passed)  # not send_signal, which may wait for a lock we hold


def _die_with(parent: int) -> Callable[[], None] | None:
    """Has a child get SIGTERM when its parent dies, be it by SIGKILL.

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
