"""Upstream's engine, by its list of names: ours has them all, and our methods need no other."""

import ast
import importlib
import os
import subprocess
import sys

import pytest

from dassl.config import get_cfg_default
from dassl.data.datasets import DatasetBase
from dassl.engine import TrainerX
from run.config import default_config, extend_cfg, merge_file
from tests.helpers import upstream
from tests.helpers.toy_run import REPO
from tests.house.test_architecture import ENGINE
from tools.flatten import flattened


@pytest.mark.parametrize("module", upstream.NAMES)
def test_the_engine_has_the_names_of_upstreams(module):
    loaded = importlib.import_module(module)
    missing = [name for name in sorted(upstream.NAMES[module]) if not hasattr(loaded, name)]
    assert not missing


def test_classes_have_the_members_of_upstreams():
    assert [name for name in upstream.TRAINER_MEMBERS if not hasattr(TrainerX, name)] == []
    assert [name for name in upstream.DATASET_MEMBERS if not hasattr(DatasetBase, name)] == []


def test_what_plugins_may_use_is_upstreams():
    for module, names in ENGINE.items():
        assert names <= upstream.NAMES[module], module


@pytest.mark.parametrize("file", ["config", "flat", "plugins", "plugin_errors", "siblings"])
def test_what_extend_cfg_imports_is_upstreams(file):
    for node in ast.parse((REPO / "run" / f"{file}.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "dassl":
            assert {alias.name for alias in node.names} <= upstream.NAMES[node.module]


def yaml_files(folder):
    files = sorted((REPO / "configs" / folder).rglob("*.yaml"))
    return [file for file in files if file.name != "per_dataset.yaml"]


@pytest.mark.parametrize("folder", ["datasets", "trainers"])
def test_yacs_itself_reads_the_yaml_files(folder, tmp_path):
    """Upstream's train.py merges them without the help that ours gives, once they are flat."""
    for file in yaml_files(folder):
        (tmp_path / "flat.yaml").write_text(flattened(file))
        cfg = get_cfg_default()
        extend_cfg(cfg)
        cfg.merge_from_file(str(tmp_path / "flat.yaml"))
        merge_file(ours := default_config(), file)
        cfg.pop("PER_DATASET")
        ours.INPUT.EXIF_ORIENTATION = "ignore"
        assert cfg == ours, file


def test_our_methods_on_upstreams_names(toy, tmp_path):
    """A child process where these import, and find on their trainer, what upstream has alone."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.on_upstream", str(toy), str(tmp_path)],
        cwd=REPO,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "all ran"
