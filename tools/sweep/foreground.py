"""Runs one after another in this terminal, as the scripts of a single method do."""

import signal
from collections.abc import Sequence
from pathlib import Path

from tools.sweep.books import Books
from tools.sweep.child import INTERRUPTED, STOPPED, Children, command
from tools.sweep.protocols import Run


def in_foreground(output: Path, runs: Sequence[Run]) -> int:
    """Run what is not finished, up to the first that fails; exit code of that one, else 0.

    A signal ends the run first, which saves; then 75 is returned, or 130 for Ctrl-C.
    """
    books, children = Books(output), Children()
    with children.listening():
        for run in runs:
            if books.is_finished(run.folder):
                print(f"finished already: {output / run.folder}", flush=True)
                continue
            code = children.call(command(run.arguments)) if children.signal is None else 0
            if children.signal == signal.SIGINT:
                return code or INTERRUPTED
            if children.signal is not None:
                return STOPPED
            if code:
                return code if code > 0 else 128 - code
    return 0
