"""Wrong commands and wrong input, as data: what each must say. `test_errors.py` runs them.

In words, {toy} is a folder with the data set colored_shapes and two CLIPs, {run} a finished run of
MMRL with two epochs, {csc} one of CoOp with a context for each of three classes, and {tmp} a folder
of the case's own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Wrong(NamedTuple):
    """A command of train.py on the toy data, changed by flags and options."""

    id: str
    opts: tuple[str, ...]
    says: tuple[str, ...]  # regular expressions, all of which must be found
    trainer: str = "MMRL"
    flags: tuple[str, ...] = ()
    prepare: Callable[[Path], None] | None = None  # gets {tmp}
    early: bool = True  # refused before the run began: it leaves no folder


class Call(NamedTuple):
    """Another command: a module with a `main`, or a script, and its words."""

    id: str
    of: str
    words: tuple[str, ...]
    says: tuple[str, ...]
    code: int = 2


def file(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def value(key: str, given: str, *says: str, trainer: str = "MMRL") -> Wrong:
    return Wrong(
        f"{key}={given:.20}", (key, given), (rf"{key.rpartition('.')[2]}\b", *says), trainer
    )
