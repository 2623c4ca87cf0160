"""The life of a run: data, model, resume, checkpoints, tests."""

import math
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.data.division import Division
from dassl.evaluation import build_evaluator
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import check_availability, count_num_param, load_pretrained_weights
from dassl.utils.checkpoints import BEST, checkpoint_name, describe
from dassl.utils.collectives import from_main, main_first
from dassl.utils.devices import device_of
from dassl.utils.distributed import check_gpu, is_main
from dassl.utils.interval import Interval
from dassl.utils.stopping import stop_together

from .progress import ProgressKeeper
from .resuming import has_progress
from .run_state import same_generators
from .simple_net import SimpleNet


class SimpleTrainer(ProgressKeeper):
    """A trainer of one data set's classifier.

    Attributes:
        cfg, device, output_dir: configuration, where models live, where files go.
        dm: the `DataManager`; its loaders and label tables are attributes here too.
        model, optim, sched: what `build_model` made.
        evaluator, best_result: for tests; best_result is -inf before the first.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.check_cfg(cfg)
        check_availability(cfg.TEST.FINAL_MODEL, ["last_step", "best_val"], "TEST.FINAL_MODEL")
        self._interval = Interval(cfg.TRAIN.CHECKPOINT_EVERY, "TRAIN.CHECKPOINT_EVERY")
        self.device = device_of(cfg)
        if self.device.type == "cuda":
            check_gpu()
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        same_generators()
        with main_first():  # it may download, and keep what it drew
            self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -np.inf

    def check_cfg(self, cfg: CfgNode) -> None:
        """Check what the trainer needs of the configuration; trainers say so here."""

    def build_data_loader(self) -> None:
        """Build the data set and its loaders."""
        self.dm = DataManager(self.cfg)
        self.train_loader_x = self.dm.train_loader_x
        self.train_loader_u = self.dm.train_loader_u  # None without unlabelled images
        self.val_loader = self.dm.val_loader  # None without validation images
        self.test_loader = self.dm.test_loader
        self.num_classes = self.dm.num_classes
        self.num_source_domains = self.dm.num_source_domains
        self.lab2cname = self.dm.lab2cname

    def build_model(self) -> None:
        """Build and register a `SimpleNet`; trainers with a model of their own override this."""
        cfg = self.cfg
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    def train(self) -> None:  # type: ignore[override]
        """Train from `start_epoch` to `max_epoch`, then test."""
        super().train(self.start_epoch, self.max_epoch)
        self._remove_snapshots()

    def before_train(self) -> None:
        """Resume if there is something to resume from, find out whether there is room for
        checkpoints, and open the TensorBoard files.

        Raises:
            FileNotFoundError: RESUME is set, and there is nothing to go on from.
            OSError: there is no room.
            ValueError: the best model on the validation set is wanted, but there is no such set.
        """
        if self._validates() and self.val_loader is None:
            raise ValueError(
                "TEST.FINAL_MODEL is best_val, but the data set has no validation images: "
                "set it to last_step"
            )
        self._resume()
        self._prepare_folder(self.cfg.TRAIN.CHECKPOINT_FREQ, keeps_best=self._validates())
        self._save_missing()
        self._interval.restart()
        self.init_writer(str(Path(self.output_dir) / "tensorboard"), self._first_step)
        self.time_start = time.time()

    def _resume(self) -> None:
        """Go on from OUTPUT_DIR, or from RESUME where that has nothing yet."""
        given, names = self.cfg.RESUME, self.get_model_names()
        if not given or from_main(lambda: has_progress(Path(self.output_dir), names)):
            self.start_epoch = self.resume_model_if_exist(self.output_dir)
        if not given or self.start_epoch or self._interrupted:
            return
        self.start_epoch = self.resume_model_if_exist(given)
        self.best_result = -np.inf  # the model that had it stays in the other folder
        if not self.start_epoch and not self._interrupted:
            there = "; ".join(f"{name}: {describe(Path(given) / name)}" for name in names)
            raise FileNotFoundError(
                f"RESUME is {given!r}, where not every one of {names} has a sound checkpoint to "
                f"go on from (one that is damaged is named above; {there}). Give the folder of "
                "another run, or leave it out to start afresh"
            )

    def after_epoch(self) -> None:
        """Save the model if it is the best so far, if one is due, and after the last epoch."""
        if self._validates():
            self._save_if_best()
        if self._is_kept(self.epoch + 1):
            self.save_model(self.epoch, self.output_dir)

    def _is_kept(self, done: int) -> bool:
        """Say whether there is to be a checkpoint of `done` epochs."""
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        return done == self.max_epoch or (frequency > 0 and done % frequency == 0)

    def _save_missing(self) -> None:
        """Save what a run that was killed in `after_epoch` had no time for."""
        done = self.start_epoch
        if not done or self._interrupted is not None or not self._is_kept(done):
            return
        folders = [Path(self.output_dir) / name for name in self.get_model_names()]
        files = [folder / checkpoint_name(done) for folder in folders]
        if not from_main(lambda: all(file.is_file() for file in files)):
            self.save_model(done - 1, self.output_dir)

    def after_train(self) -> None:
        """Test the final model, unless TEST.NO_TEST, and say how long it all took."""
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self._validates():
                print("The model that was best on the validation set is tested")
                self.load_model(self.output_dir)
            else:
                print("The model of the last epoch is tested")
            self.test()
        elapsed = timedelta(seconds=round(time.time() - self.time_start))
        print(f"Elapsed: {elapsed}")
        self.close_writer()

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on 'val' or 'test', by default TEST.SPLIT; return the first result.

        Raises:
            ValueError: another split, or no test images.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split, loader = self._test_split(self.cfg.TEST.SPLIT if split is None else split)
        print(f"Evaluate on the *{split}* set")
        for batch, whole in self.test_batches(loader, split):
            input, label = self.parse_batch_test(batch)
            self.evaluator.process(*whole((self.model_inference(input), label)))
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def test_batches(self, loader: Any, desc: str) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
        """Yield the batches of a pass, with a progress bar; of several processes, their parts.

        Yields:
            A batch, and what makes of this process's answers (a tensor with a row for each image,
            or a tuple of such) those to the whole batch; all processes must call it.
        """
        division = Division(loader)
        bar = None if is_main() else True  # None: no bar without a terminal
        with division.in_force():
            for number, batch in enumerate(tqdm(loader, desc=desc, leave=False, disable=bar)):
                stop_together()
                yield batch, partial(division.whole, number)

    def model_inference(self, input: Tensor) -> Tensor:
        """Return what is evaluated: (N, C) scores."""
        return self.model(input)

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return images (N, 3, H, W) and labels (N,) on the device."""
        return self._to_device(batch["img"]), self._to_device(batch["label"])

    def _to_device(self, value: Tensor) -> Tensor:
        return value.to(self.device, non_blocking=True)

    def _validates(self) -> bool:
        """Say whether the model that is best on the validation images is kept."""
        return self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST

    def _save_if_best(self) -> None:
        result = self.test(split="val")
        if not math.isfinite(result):
            raise FloatingPointError(
                f"the result on the validation images is {result}: no model can be the best by "
                "that. Set TEST.FINAL_MODEL to last_step, or lower OPTIM.LR"
            )
        if result > self.best_result:
            self.best_result = result
            self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST)

    def _test_split(self, split: str) -> tuple[str, Any]:
        """Return the split that is really tested, and its loader."""
        check_availability(split, ["val", "test"], what="split (TEST.SPLIT)")
        if split == "val" and self.val_loader is None:
            print("*** There are no validation images: the TEST images are used instead ***")
            split = "test"
        loader = self.val_loader if split == "val" else self.test_loader
        if loader is None:
            raise ValueError("The data set has no test images")
        return split, loader

    def _choose_checkpoint(self, folders: list[Path], epoch: int | None) -> str:
        if epoch is None and self.cfg.TEST.FINAL_MODEL == "best_val":
            return BEST
        return super()._choose_checkpoint(folders, epoch)
