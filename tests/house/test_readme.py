"""README.md and docs/: every command works, every link leads somewhere, tables are of the code."""

import argparse
import re
import runpy
import shlex
from fnmatch import fnmatch
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

import train
from run.config import build_config
from tests.helpers.toy_run import REPO
from tools.sweep.protocols import PROTOCOLS, known_methods, trainer_named

generate = SimpleNamespace(**runpy.run_path(str(REPO / "docs/generate.py")))
README = (REPO / "README.md").read_text()
FILES = {"README.md": README} | {
    f"docs/{page.name}": page.read_text() for page in sorted((REPO / "docs").glob("*.md"))
}
ENVIRONMENT = re.compile(r"^(?:[A-Z]+=(?:\"[^\"]*\"|\S*) )+")


def commands(text: str) -> list[str]:
    """Lines in blocks of bash and indented lines that are commands; continued lines joined,
    comments and variables in front cut."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", joined, re.DOTALL)).splitlines()
    lines += [line[4:] for line in joined.splitlines() if line.startswith("    ")]
    lines = [ENVIRONMENT.sub("", line.partition(" #")[0].strip()) for line in lines]
    starts = ("make ", "bash ", "python ", "torchrun ")
    return [line for line in lines if line.startswith(starts) and " ... " not in f"{line} "]


def all_commands(start: str) -> list[str]:
    found = [command for text in FILES.values() for command in commands(text)]
    return sorted({command for command in found if command.startswith(start)})


class Parsed(BaseException):
    """The arguments of a program were right."""


def parsed_only(monkeypatch):
    """Have every program stop when it has parsed its arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def test_the_readme_is_a_door():
    assert len(README.splitlines()) <= 180
    assert len(commands(README)) >= 12


@pytest.mark.parametrize("command", all_commands("make "))
def test_make_targets(command):
    assert re.search(rf"^{command.split()[1]}:", (REPO / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", all_commands("bash "))
def test_scripts(command):
    _, script, *arguments = command.split()
    method = "" if script.count("/") == 2 and "/all/" not in script else arguments.pop(0)
    assert (REPO / script).is_file()
    assert not method or trainer_named(method)
    if "--workers" in arguments:
        arguments = arguments[: arguments.index("--workers")]
    for argument in arguments:
        known = (REPO / "configs/datasets" / f"{argument}.yaml").is_file()
        assert known or argument.isdecimal() or argument.endswith(".yaml")


@pytest.mark.parametrize("command", [*all_commands("python train.py"), *all_commands("torchrun ")])
def test_training_commands(command, monkeypatch):
    monkeypatch.chdir(REPO)
    cfg, _ = build_config(train.parse_args(shlex.split(command.partition("train.py ")[2])))
    assert cfg.TASK and cfg.OUTPUT_DIR and cfg.DATASET.NAME


@pytest.mark.parametrize(
    "command", [*all_commands("python -m "), *all_commands("python parse_test_res.py")]
)
def test_other_programs(command, monkeypatch):
    module = command.removeprefix("python -m ").removeprefix("python ").split()[0]
    module = module.removesuffix(".py")
    arguments = shlex.split(command[command.index(module) :].removeprefix(f"{module}.py"))
    arguments = arguments[1:] if arguments[0] == module else arguments
    if find_spec(module).submodule_search_locations is not None:
        module += ".__main__"
    parsed_only(monkeypatch)
    with pytest.raises(Parsed):
        import_module(module).main(arguments)


@pytest.mark.parametrize("command", all_commands("python -m tools.sweep "))
def test_sweeps_have_runs(command, tmp_path):
    protocol, *flags = shlex.split(command)[3:]
    if protocol in PROTOCOLS:
        main = import_module("tools.sweep.__main__").main
        assert main([protocol, "--commands", "--output", str(tmp_path), *flags]) == 0


def test_methods_of_the_demo():
    for named in re.findall(r'METHODS="([^"]+)"', "".join(FILES.values())):
        assert set(named.split()) <= set(known_methods())


def test_the_table_of_methods_is_that_of_the_code():
    """If not: `python docs/generate.py`."""
    assert generate.with_methods(README) == README
    named = set(re.findall(r"^\| [^|]+ \| (.*?) \|", generate.methods_table(), re.MULTILINE))
    trainers = {name for cell in named for name in re.findall(r"`(\w+)`", cell)}
    assert set(known_methods()) <= trainers


@pytest.mark.parametrize("name", [*FILES, "CONTRIBUTING.md", "packages/dassl/README.md"])
def test_links_lead_to_files(name):
    """Their anchors are checked by `make docs`."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (REPO / name).read_text())
    assert [t for t in targets if not (REPO / name).parent.joinpath(t).exists()] == []


def test_what_is_where_is_complete():
    """It lists all that is at the top and every package of tools/, and nothing else."""
    rows = re.findall(r"^\| (`.*?) \|", FILES["docs/layout.md"], re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([\w./-]+)`", row)}
    assert [name for name in sorted(listed) if not (REPO / name).exists()] == []
    ignored = [line.strip("/") for line in (REPO / ".gitignore").read_text().split()]
    found = [*REPO.iterdir(), *filter(Path.is_dir, (REPO / "tools").iterdir())]
    names = {
        path.relative_to(REPO).as_posix() + "/" * path.is_dir()
        for path in found
        if path.name[0] != "." and not any(fnmatch(path.name, pattern) for pattern in ignored)
    }
    assert names - listed <= {"packages/"}
