"""What the commands of this project share: paths, wrong flags, errors, exit codes, terminals."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

# A command finds our `datasets` from any directory, also beside Hugging Face's package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


class Parser(argparse.ArgumentParser):
    """Has --debug, and says what is wrong with flags in one line."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)
        # Without a default, since a subcommand's would replace what stands before it.
        text = "show the traceback of an error"
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=text)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            known = re.findall(r"--[\w-]+", self.format_usage())
            near = difflib.get_close_matches(flag, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"unknown: {' '.join(unknown)}{hint}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        from dassl.utils.distributed import report_once  # late: not all commands need it

        end = "" if message.endswith("?") else "."
        report_once(f"error: {message}{end} See {self.prog} --help", 2)
        self.exit(2)


def guarded(
    work: Callable[[], int | None], args: argparse.Namespace, interrupted: str = "interrupted"
) -> int:
    """The exit code of `work`: its own, else 0; 2 with a message for bad input, 3 for values that
    became infinite or NaN, 130 for Ctrl-C."""
    try:
        return work() or 0
    except KeyboardInterrupt:
        _say(interrupted)
        return 130
    except BrokenPipeError:
        raise  # `piped` takes it
    except (ValueError, OSError, FloatingPointError) as error:
        if getattr(args, "debug", False):
            raise
        _say(f"error: {error}")
        return 3 if isinstance(error, FloatingPointError) else 2


def _say(text: str) -> None:
    with suppress(OSError):  # the exit code says it, too
        print(text, file=sys.stderr, flush=True)


def piped(main: Callable[[], int]) -> int:
    """The exit code of `main`; 0 where what it prints goes to something that has read enough."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed when the process began
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        # terminals without '±', odd file names
        getattr(sys, name).reconfigure(errors="backslashreplace")
    status = 0
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up(sys.stdout)
    except OSError as error:  # such as a full disk, where what was printed goes to a file
        _give_up(sys.stdout)
        _say(f"error: not all could be printed: {error}; give standard output another place")
        return status or 2
    return status


@contextmanager
def printing_stops_nothing() -> Iterator[None]:
    """Within, work goes on where nobody can read any more what it prints."""
    from dassl.utils.logger import Logger  # late: not all commands need it

    out, err = sys.stdout, sys.stderr
    with redirect_stdout(Logger(console=out)), redirect_stderr(Logger(console=err)):
        yield
    for stream in (out, err):
        try:
            stream.flush()
        except OSError:
            _give_up(stream)


def _give_up(stream: TextIO) -> None:
    """Have the rest of what is printed go nowhere, so that it fails no more."""
    with suppress(OSError, ValueError):  # no file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def path(text: str) -> Path:
    """The type of a flag that is a path: ~ is the home folder, also in --flag=~/here."""
    return Path(os.path.expanduser(text))


def positive(text: str) -> int:
    """The type of a flag that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
