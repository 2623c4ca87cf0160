"""What the commands of this project share: words for wrong flags and errors, and exit codes."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Has --debug, and says what is wrong with flags in one line."""

    def __init__(self, **options):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)
        # Without a default, since a subcommand's would replace what stands before it.
        text = "show the traceback of an error"
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=text)

    def error(self, message: str) -> NoReturn:
        from dassl.utils.distributed import report  # late: not all commands need it

        report(f"error: {message}. See {self.prog} --help", 2)
        self.exit(2)


def guarded(
    work: Callable[[], int | None], args: argparse.Namespace, interrupted: str = "interrupted"
) -> int:
    """The exit code of `work`: its own, else 0; 2 with a message for bad input, 3 for values that
    became infinite or NaN, 130 for Ctrl-C."""
    try:
        return work() or 0
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise  # `piped` takes it
    except (ValueError, OSError, FloatingPointError) as error:
        if getattr(args, "debug", False):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, FloatingPointError) else 2


def piped(main: Callable[[], int]) -> int:
    """The exit code of `main`; 0 where what it prints goes to something that has read enough."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # terminals without '±', odd file names
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def positive(text: str) -> int:
    """The type of a flag that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
