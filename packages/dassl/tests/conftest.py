"""A drawn data set and toy plugins, written the way plugins of this ecosystem are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX, TrainerXU
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param, set_random_seed

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}


def pytest_configure(config: pytest.Config) -> None:
    # Python 3.12 and later say so of every loader with workers
    config.addinivalue_line(
        "filterwarnings", "ignore:.*multi-threaded, use of fork:DeprecationWarning"
    )


@DATASET_REGISTRY.register()
class DrawnColours(DatasetBase):
    dataset_dir = "drawn"

    def __init__(self, cfg):
        root = Path(cfg.DATASET.ROOT) / self.dataset_dir
        train, val, test = (self._read(root, split) for split in ("train", "val", "test"))
        train = self.generate_fewshot_dataset(train, num_shots=cfg.DATASET.NUM_SHOTS)
        train_u = train if cfg.DATASET.ALL_AS_UNLABELED else None
        super().__init__(train_x=train, train_u=train_u, val=val, test=test)

    @staticmethod
    def _read(root, split):
        return [
            Datum(impath=str(path), label=label, classname=colour)
            for label, colour in enumerate(COLOURS)
            for path in sorted((root / split / colour).iterdir())
        ]


class PatchLearner(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(3 * 8 * 8, num_classes)

    def forward(self, image):
        return self.linear(self.dropout(F.avg_pool2d(image, 2).flatten(1)))


@TRAINER_REGISTRY.register()
class ToyTrainer(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.OPTIM.MAX_EPOCH >= 1

    def build_model(self):
        cfg = self.cfg
        classnames = self.dm.dataset.classnames
        self.model = PatchLearner(len(classnames))
        print("# params: {:,}".format(count_num_param(self.model)))  # noqa: UP032
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("learner", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        loss_summary = {"loss": loss, "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return loss_summary

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)


@TRAINER_REGISTRY.register()
class ToyTrainerXU(TrainerXU):
    def build_model(self):
        ToyTrainer.build_model(self)

    def forward_backward(self, batch_x, batch_u):
        image, label, _domain, image_u = self.parse_batch_train(batch_x, batch_u)
        answers = self.model(image_u).softmax(dim=1)
        entropy = -(answers * answers.log()).sum(dim=1).mean()
        loss = F.cross_entropy(self.model(image), label) + 0.1 * entropy
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "entropy": entropy}


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
