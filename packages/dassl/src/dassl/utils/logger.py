"""What is printed also goes to a file."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from .tools import StrPath


class Logger:
    """A text stream that writes to the console and to a file.

    Lines reach the file as they end, so that a killed run leaves what it printed. Nothing that is
    printed stops a run: where the console is gone the file gets the rest alone, and where the disk
    is full the console does; what a console cannot show is escaped.
    """

    def __init__(self, fpath: StrPath | None = None, console: TextIO | None = None) -> None:
        """`console`: by default what is `sys.stdout` now."""
        self.console: TextIO = console or sys.stdout
        self._console_is_there, self._told = True, False
        self.file: TextIO | None = None
        if fpath is not None:
            Path(fpath).parent.mkdir(parents=True, exist_ok=True)
            self.file = open(  # noqa: SIM115
                fpath, "a", encoding="utf-8", errors="backslashreplace", buffering=1
            )

    def write(self, text: str) -> int:
        self._on_console(lambda: self._show(text))
        self.note(text)
        return len(text)

    def _show(self, text: str) -> None:
        try:
            self.console.write(text)
        except UnicodeEncodeError:
            encoding = self.console.encoding or "ascii"
            self.console.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def note(self, text: str) -> None:
        """Write to the file alone, if there is one."""
        if self.file is not None:
            self._in_file(lambda file: file.write(text))

    def flush(self) -> None:
        self._on_console(self.console.flush)
        self._in_file(lambda file: file.flush())

    def _in_file(self, act: Callable[[TextIO], object]) -> None:
        """Go on without lines that the file cannot take, say because the disk is full."""
        if self.file is None:
            return
        try:
            act(self.file)
        except OSError as error:
            told = "" if self._told else f"{self.file.name} lacks what follows: {error}\n"
            self._told = True
            self._on_console(lambda: self._show(told))

    def _on_console(self, act: Callable[[], object]) -> None:
        """Go on without a console that is gone: a terminal that was closed, a pipe to nobody."""
        if self._console_is_there:
            try:
                act()
            except OSError:
                self._console_is_there = False

    def __getattr__(self, name: str) -> Any:
        """Whatever else a stream has (`isatty`, `encoding`, `buffer`...) is the console's."""
        if name == "console":  # not there yet: do not look for it in itself
            raise AttributeError(name)
        return getattr(self.console, name)

    def close(self) -> None:
        """Close the file, and give `sys.stdout` back if it is this logger. The console stays."""
        if sys.stdout is self:
            sys.stdout = self.console
        self._in_file(lambda file: file.close())
        self.file = None

    def __enter__(self) -> "Logger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def setup_logger(output: StrPath | None = None) -> Logger | None:
    """Copy stdout into a file from now on, until `close()` of the returned logger.

    Args:
        output: a folder, for `log.txt` in it, or a file ending in .txt or .log. An existing file
            is left alone: the new one gets the time behind its name. None: no log.

    A logger that is still in place is closed first: its run is over.
    """
    if output is None:
        return None
    path = Path(output)
    if path.suffix not in (".txt", ".log"):
        path = path / "log.txt"
    if isinstance(sys.stdout, Logger):
        sys.stdout.close()
    logger = Logger(_free_name(path))
    sys.stdout = logger  # type: ignore[assignment]
    return logger


def _free_name(path: Path) -> Path:
    """Return `path`, or if that exists a name with the time behind it."""
    stamp = time.strftime("-%Y-%m-%d-%H-%M-%S")
    candidate, count = path, 0
    while candidate.exists():
        candidate = path.with_name(f"{path.name}{stamp}" + (f"-{count}" if count else ""))
        count += 1
    return candidate
