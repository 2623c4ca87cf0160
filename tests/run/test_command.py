"""What all commands do with their terminal, their flags and their paths."""

import os
import subprocess
import sys

import pytest

from run.command import Parser, path
from tests.helpers.toy_run import REPO

PROGRAM = """
import sys
from run.command import guarded, piped, printing_stops_nothing
def output():
    print("one", flush=True)
    print("done \\u00b1", file=sys.stderr)
    return 75
@printing_stops_nothing()
def work():
    return output()
sys.exit(piped(lambda: guarded({}, None)))
"""


def a_pipe_to_nobody() -> None:
    read, write = os.pipe()
    os.dup2(write, 1)
    os.close(read)


def a_full_disk() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def nothing() -> None:
    os.close(1)


@pytest.mark.parametrize(
    ("name", "where", "code", "says"),
    [
        ("output", None, 75, r"done \xb1"),
        ("output", a_pipe_to_nobody, 0, ""),  # who reads has had enough
        ("output", a_full_disk, 2, "No space left"),  # what was wanted is not whole
        ("output", nothing, 75, r"done \xb1"),
        *(("work", where, 75, r"done \xb1") for where in (a_pipe_to_nobody, a_full_disk, nothing)),
    ],
)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_where_what_is_printed_cannot_go(name, where, code, says):
    """What ends a command that prints is no reason to end one that works."""
    command = [sys.executable, "-c", PROGRAM.format(name)]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command, cwd=REPO, env=env, capture_output=True, text=True, preexec_fn=where
    )
    assert done.returncode == code and says in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_a_flag_that_nobody_knows(capsys):
    parser = Parser(prog="it")
    parser.add_argument("--output-dir", type=path)
    with pytest.raises(SystemExit):
        parser.parse_args(["--outputdir=x"])
    told = capsys.readouterr().err
    assert told == "error: unknown: --outputdir=x; did you mean --output-dir? See it --help\n"
