"""Drawn images, a quick configuration, and the toy plugin in registries of its own."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import set_random_seed

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}


def pytest_configure(config: pytest.Config) -> None:
    # Python 3.12 and later say so of every loader with workers
    config.addinivalue_line(
        "filterwarnings", "ignore:.*multi-threaded, use of fork:DeprecationWarning"
    )


@pytest.fixture(autouse=True)
def toy_plugin(monkeypatch):
    """Run the plugin's file; what it registers is forgotten after the test."""
    for registry in (TRAINER_REGISTRY, DATASET_REGISTRY):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    path = Path(__file__).with_name("toy_plugin.py")
    spec = importlib.util.spec_from_file_location("toy_plugin", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def image_root(tmp_path_factory):
    """Folder with noisy 20x24 images of three colours: 6 train, 2 val, 4 test of each."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        for colour, rgb in COLOURS.items():
            folder = root / "drawn" / split / colour
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rgb + draw.normal(0, 60, (20, 24, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def make_cfg(image_root, tmp_path):
    """Return a function that makes a small, quick configuration from 'KEY', value pairs."""

    def make(*opts):
        cfg = get_cfg_default()
        cfg.DATASET.ROOT = str(image_root)
        cfg.DATASET.NAME = "DrawnColours"
        cfg.INPUT.SIZE = (16, 16)
        cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 4
        cfg.DATALOADER.TEST.BATCH_SIZE = 5
        cfg.OPTIM.NAME = "sgd"
        cfg.OPTIM.LR = 0.01
        cfg.OPTIM.MAX_EPOCH = 3
        cfg.OPTIM.LR_SCHEDULER = "cosine"
        cfg.OPTIM.WARMUP_EPOCH = 1
        cfg.OPTIM.WARMUP_TYPE = "constant"
        cfg.TRAIN.PRINT_FREQ = 2
        cfg.TRAINER.NAME = "ToyTrainer"
        cfg.OUTPUT_DIR = str(tmp_path / "output")
        cfg.USE_CUDA = False
        cfg.merge_from_list(list(opts))
        set_random_seed(1)
        return cfg

    return make


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny models are quicker, and sums always in one order, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
