"""A cache of the user's for each test, and a data root with the golden split file."""

import shutil
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden/data"


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data/dtd/images/banded").mkdir(parents=True)
    shutil.copy(GOLDEN / "split_zhou_DescribableTextures.json", tmp_path / "data/dtd")
    return tmp_path / "data"
