"""The project as a package: used from any directory, beside another package called datasets."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from common import __version__
from tests.helpers.toy_run import REPO, command

OTHER = "class Dataset: pass\n"  # in Hugging Face's package there is one


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory with another `datasets`, as in site-packages: found before ours."""
    (tmp_path / "site" / "datasets").mkdir(parents=True)
    (tmp_path / "site" / "datasets" / "__init__.py").write_text(OTHER)
    return tmp_path


def python(elsewhere: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(elsewhere / "site"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout


def test_prediction_as_a_library(elsewhere, toy):
    run = elsewhere / "run"
    train = command(toy, "MMRL", run)
    assert "* accuracy" in python(elsewhere, str(REPO / "train.py"), *train)
    image = next((toy / "colored_shapes" / "images").rglob("*.png"))
    code = (
        "from tools.predict import load\n"
        f"print(load({str(run)!r})([{str(image)!r}])[0][0].name)\n"
        "import datasets; print(datasets.Dataset.__name__)"
    )
    for first in ("", "import datasets\n"):
        *_, name, other = python(elsewhere, "-c", first + code).splitlines()
        assert " " in name and other == "Dataset"


def test_commands_from_another_directory(elsewhere):
    listed = python(elsewhere, "-m", "tools.data", "list", "--root", "nowhere", code=1)
    assert "eurosat" in listed and "published" in listed


def test_the_version_is_said_once():
    assert version("mmrl") == __version__
    assert f"version: {__version__}\n" in (REPO / "CITATION.cff").read_text()
