"""Every command of the README and docs/RESULTS.md works: names, files, flags, targets exist."""

import re
import shlex

import pytest

import tools.predict.__main__
import tools.report.__main__
import tools.results.cli
import tools.sweep.cli
import train
from run.config import build_config
from tests.helpers.toy_run import REPO
from tools.sweep.protocols import PROTOCOLS, known_methods

TEXT = (REPO / "README.md").read_text()
WITH_DOCS = TEXT + (REPO / "docs" / "RESULTS.md").read_text()


def commands(text: str = WITH_DOCS) -> list[str]:
    """The indented lines that are commands, continued lines joined, comments cut."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [
        line[4:].partition(" #")[0].strip() for line in joined.splitlines() if line[:4] == "    "
    ]
    starts = ("make ", "bash ", "python ")
    return [line for line in lines if line.startswith(starts)]


def test_there_are_commands():
    assert len(commands()) >= 12


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make ")])
def test_make_targets(command):
    assert re.search(rf"^{command.split()[1]}:", (REPO / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("bash ")])
def test_scripts(command):
    _, script, *arguments = command.split()
    assert (REPO / script).is_file()
    for argument in arguments:
        is_method = (REPO / "scripts" / argument / "base2new_train.sh").is_file()
        assert is_method or (REPO / "configs/datasets" / f"{argument}.yaml").is_file()


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("python train.py")])
def test_training_commands(command, monkeypatch):
    monkeypatch.chdir(REPO)
    cfg, _ = build_config(train.parse_args(shlex.split(command)[2:]))
    assert cfg.TASK and cfg.OUTPUT_DIR and cfg.DATASET.NAME


@pytest.mark.parametrize("command", [c for c in commands() if "parse_test_res.py" in c])
def test_table_commands(command):
    assert (
        tools.results.cli.parse_arguments(shlex.split(command)[2:]).directory.parts[0] == "output"
    )


@pytest.mark.parametrize("command", [c for c in commands() if "tools.report" in c])
def test_report_commands(command):
    assert tools.report.__main__.parse_arguments(shlex.split(command)[3:]).output.parts == (
        "output",
    )


@pytest.mark.parametrize("command", [c for c in commands() if "tools.predict" in c])
def test_predict_commands(command):
    args = tools.predict.__main__.parse_args(shlex.split(command)[3:])
    tools.predict.__main__.check_args(args)
    assert args.model_dir.parts[0] == "output"


@pytest.mark.parametrize("command", [c for c in commands() if "tools.sweep" in c])
def test_sweep_commands(command, tmp_path):
    args = tools.sweep.cli.parse_args(shlex.split(command)[3:])
    if args.command in PROTOCOLS:
        args.commands, args.output = True, tmp_path
        assert tools.sweep.cli.sweep(args) == 0


def test_methods_of_the_demo():
    for named in re.findall(r'METHODS="([^"]+)"', TEXT):
        assert set(named.split()) <= set(known_methods())


def test_the_file_tree_is_there():
    tree = TEXT[TEXT.index("## What is where") : TEXT.index("A new method is a file")]
    folder = REPO
    for line in tree.splitlines():
        if not line.startswith("    "):
            continue
        indent = len(line) - len(line.lstrip())
        names = re.match(r"\s+((?:[\w.*]+/?)(?:, [\w.]+)*)", line)[1].split(", ")
        place = REPO if indent == 4 else folder
        for name in names:
            assert list(place.glob(name.rstrip("/"))), line
        if indent == 4 and names[0].endswith("/"):
            folder = REPO / names[0]
