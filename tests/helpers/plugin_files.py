"""Files of plugins for tests, and forgetting them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import datasets
import trainers
from run import siblings
from run.config import default_config
from run.plugins import REGISTRIES
from tests.helpers.toy_run import REPO

REGISTERED = """
from dassl.engine import TRAINER_REGISTRY, TrainerX

@TRAINER_REGISTRY.register()
class {}(TrainerX):
    pass
"""


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers and imports is forgotten after it."""
    default_config()  # ours stay
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    for state in ("_own", "_joined"):
        monkeypatch.setattr(siblings, state, {})
    for package in (trainers, datasets):
        monkeypatch.setattr(package, "__path__", list(package.__path__))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    theirs = ("trainers.", "datasets.", "clip", "words")
    for name in [name for name in sys.modules if name.startswith(theirs)]:
        del sys.modules[name]
    sys.modules.update({n: module for n, module in before.items() if n.startswith(theirs)})


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def python(code: str, *arguments: object, cwd: Path, first: str = "") -> list[str]:
    """The lines that a process prints; `first` stands before ours on PYTHONPATH."""
    paths = [first, str(REPO), str(REPO / "packages/dassl/src")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        env={"PYTHONPATH": ":".join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()
