"""What every command says to wrong input: one screen, the next step, the exit code, no traceback.

The cases are data, in tests/wrong/.
"""

import importlib
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import train
from tests.helpers.toy_run import REPO, command
from tests.wrong import Call, Wrong
from tests.wrong.commands import COMMANDS
from tests.wrong.data import DATA, OWN, own_folder
from tests.wrong.files import FILES
from tests.wrong.settings import SETTINGS

# A message ends with what can be done: it has one of these words, or names what is allowed.
NEXT = re.compile(
    r"\b(allowed|did you mean|do you mean|expected|choose|set|give|get|add|use|take|see|delete|"
    r"leave|make|rename|shorten|train|evaluate|put|must|correct|needs?|replace|--help|data sets|"
    r"methods|"
    r"usage|at least|there is no|run)\b",
    re.IGNORECASE,
)
MOST_LINES, MOST_LETTERS = 25, 1000


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """A finished run of MMRL, and one of CoOp with a context for each of three classes."""
    folder = tmp_path_factory.mktemp("runs")
    frequent = ("TRAIN.CHECKPOINT_FREQ", "1")
    assert train.main(command(toy, "MMRL", folder / "run", opts=frequent)) == 0
    csc = ("TRAINER.COOP.CSC", "True", "OPTIM.MAX_EPOCH", "1")
    assert train.main(command(toy, "CoOp", folder / "csc", opts=csc)) == 0
    return folder


@pytest.fixture
def places(toy, runs, tmp_path, monkeypatch):
    """What stands in braces; none of it may change. The cache of data sets goes elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    (tmp_path / "case").mkdir()
    names = {"toy": toy, "run": runs / "run", "csc": runs / "csc", "tmp": tmp_path / "case"}
    before = contents(runs)
    yield {name: str(path) for name, path in names.items()}
    assert contents(runs) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def filled(words, places) -> list[str]:
    for name, path in places.items():
        words = [word.replace(f"{{{name}}}", path) for word in words]
    return words


def test_every_case_has_a_name_of_its_own():
    names = [case.id for case in (*SETTINGS, *FILES, *DATA, *COMMANDS)]
    assert len(set(names)) == len(names) > 120


def tool_of(name: str):
    module = importlib.import_module(name)
    if not hasattr(module, "main"):
        module = importlib.import_module(f"{name}.__main__")
    return module.main


def exit_code(main, words) -> int:
    """Of a main in this process: what it returns, or what argparse exits with."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return main(words)
    except SystemExit as stopped:
        return stopped.code


def check_message(told: str, says, places) -> None:
    assert "Traceback" not in told
    assert told.strip().count("\n") < MOST_LINES, told
    short = told
    for path in (str(REPO), *places.values()):  # folders of tests are long
        short = short.replace(path, "")
    assert len(short) <= MOST_LETTERS, len(short)
    for part in says:
        assert re.search(part, told, re.DOTALL), f"no {part!r} in: {told}"
    assert NEXT.search(told), told


@pytest.mark.parametrize("case", (*SETTINGS, *FILES, *DATA), ids=lambda case: case.id)
def test_train(case: Wrong, places, capfd):
    folder = Path(places["tmp"])
    if case.prepare:
        case.prepare(folder)
    given = command(Path(places["toy"]), case.trainer, folder / "out")
    end = given.index("TASK")
    flags = filled(case.flags, places)
    if "--config-file" in flags:
        place = given.index("--config-file")
        given[place : place + 2], flags = flags, []
        end = given.index("TASK")
    arguments = [*given[:end], *flags, *given[end:], *filled(case.opts, places)]
    before = contents(folder)
    assert exit_code(train.main, arguments) == 2
    check_message(capfd.readouterr().err, case.says, places)
    if case.early:  # data sets may keep splits and draws beside their pictures
        data = {folder / "data", folder / "own", folder.parent / ".cache"}
        new = [path for path in contents(folder) if path not in before]
        assert all(data & set(path.parents) for path in new), new
        assert {path: path.read_bytes() for path in before} == before
        assert not (folder / "out").exists()


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: case.id)
def test_other_commands(case: Call, places, capfd, monkeypatch):
    folder = Path(places["tmp"])
    (folder / "file").write_text("a file")
    before = contents(folder)
    words = filled(case.words, places)
    if case.of.endswith(".sh"):
        env = {"DATA": places["toy"], "OUTPUT": str(folder / "out"), "PYTHON": sys.executable}
        command = ["bash", str(REPO / "scripts" / case.of), *words]
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
        code, told = done.returncode, done.stderr
    else:
        code, told = exit_code(tool_of(case.of), words), ""
    told = told or capfd.readouterr().err
    assert code == case.code, told
    check_message(told, case.says, places)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "opts",
    [
        ("DATASET.NUM_SHOTS", "0"),  # all, as everything below 1
        ("DATASET.NUM_SHOTS", "1000"),  # more than there are: all
        (*OWN, "{tmp}/own"),
        ("TRAINER.MCD.N_STEP_F", "-7", "MODEL.HEAD.NAME", "none"),  # known, and not used here
    ],
)
def test_what_is_no_error(opts, places):
    folder = Path(places["tmp"])
    own_folder("crème brûlée", "日本", "a.b-c (2)")(folder)
    arguments = command(Path(places["toy"]), "MMRL", folder / "out", "--no-train")
    assert exit_code(train.main, [*arguments, *filled(opts, places)]) == 0
    assert (folder / "out/config.yaml").is_file()


@pytest.mark.parametrize(
    ("program", "code", "says"),
    [
        pytest.param("train.py --trainer MMLR", 2, "do you mean 'MMRL'", marks=pytest.mark.slow),
        ("parse_test_res.py {tmp}/nowhere", 2, "no directory"),
        ("parse_test_res.py {tmp}", 1, "no runs in"),
        ("-m tools.data verify dtt", 2, "did you mean dtd"),
        ("-m tools.toy {tmp}/toy --train none", 2, "whole number"),
    ],
)
def test_in_a_process_of_its_own(program, code, says, places):
    words = filled(program.split(), places)
    done = subprocess.run([sys.executable, *words], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    check_message(done.stderr, [says], places)


def test_debug_shows_where(capsys):
    with pytest.raises(ValueError, match="did you mean dtd"):
        tool_of("tools.data")(["--debug", "verify", "dtt"])
