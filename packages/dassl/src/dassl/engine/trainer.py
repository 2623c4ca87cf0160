"""Trainers: `train` is the loop of a run, hooks do the rest.

`TrainerBase` has models, steps and the loop, `SimpleTrainer` data, checkpoints and tests, and
`TrainerX` the batches of an epoch. Plugins derive from `TrainerX` and override what they do
otherwise. Other names are here because Dassl's module of this name imports them too, and published
code takes them from it.
"""

import datetime
import math
import os.path as osp
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.data.loader import stop_workers
from dassl.data.seeding import set_loader_epoch
from dassl.data.sharding import BatchSharding
from dassl.evaluation import build_evaluator
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    check_availability,
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    resume_from_checkpoint,
    save_checkpoint,
    tolist_if_not,
)
from dassl.utils.checkpoints import BEST, checkpoint_name, describe
from dassl.utils.devices import device_of
from dassl.utils.distributed import (
    broadcast_object,
    check_gpu,
    is_main,
    main_first,
    world_size,
)
from dassl.utils.stopping import defer_signals, stop_if_requested, stop_signals

from .checkpointing import (
    Checkpointer,
    broadcast_rng_state,
    can_resume,
    load_models,
    save_models,
    train_loaders,
)
from .evaluation import ObservedEvaluator
from .gradient_averaging import GradientAveraging
from .hooks import FiniteCheck, Hook, ProgressLog

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = [
    "AverageMeter",
    "DataManager",
    "MetricMeter",
    "OrderedDict",
    "SimpleTrainer",
    "SummaryWriter",
    "TrainerBase",
    "TrainerX",
    "build_evaluator",
    "build_lr_scheduler",
    "build_optimizer",
    "count_num_param",
    "datetime",
    "load_checkpoint",
    "load_pretrained_weights",
    "mkdir_if_missing",
    "nn",
    "np",
    "osp",
    "resume_from_checkpoint",
    "save_checkpoint",
    "time",
    "tolist_if_not",
    "torch",
    "tqdm",
]


def __getattr__(name: str) -> Any:
    if name == "SummaryWriter":  # slow to import
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class TrainerBase:
    """Models, the parts of a training step, and the loop.

    Attributes:
        start_epoch, max_epoch: the run goes from one up to, not including, the other.
        epoch, batch_idx: the current ones, counted from 0.
        num_batches: batches in the current epoch.
        max_steps: where the run ends, within the last epoch if need be; 0: with `max_epoch`.
        output_dir: where files go.
    """

    cfg: CfgNode
    device: torch.device
    best_result: float
    max_steps: int = 0

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: SummaryWriter | None = None
        self._finite_check = FiniteCheck()
        self._checkpointer = Checkpointer()
        self._hooks: list[Hook] = [GradientAveraging(), self._finite_check, ProgressLog()]
        self.start_epoch = self.epoch = self.max_epoch = 0
        self.num_batches = self.batch_idx = 0
        self.output_dir = ""

    # The loop

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Run all epochs. `before_train` may move `start_epoch`.

        A signal that ends the run (see `dassl.utils.stopping`) waits until a step is done.
        """
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        with stop_signals():
            self.before_train()
            self.call_hooks("before_train")
            try:
                with defer_signals():
                    for epoch in range(self.start_epoch, self.max_epoch):
                        self._train_epoch(epoch)
            finally:
                for loader in train_loaders(self):
                    stop_workers(loader)
            self.after_train()
            self.call_hooks("after_train")

    def _train_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for loader in train_loaders(self):
            set_loader_epoch(loader, self.epoch)
        self.before_epoch()
        self.call_hooks("before_epoch")
        self.run_epoch()
        self.call_hooks("after_epoch")
        with self._checkpointer.validation(self):
            self.after_epoch()
        self._checkpointer.end_epoch(self)

    def register_hook(self, hook: Hook) -> None:
        """Call `hook` at every event from now on, after those registered before."""
        self._hooks.append(hook)

    @property
    def registered_hooks(self) -> list[Hook]:
        """The hooks in the order they are called; the last saves the states of the others."""
        return [*self._hooks, self._checkpointer]

    def call_hooks(self, event: str, *args: Any) -> None:
        """Call the method `event` of all hooks, see `Hook`."""
        for hook in self.registered_hooks:
            getattr(hook, event)(self, *args)

    # Models

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: Optimizer | None = None,
        sched: Any = None,
    ) -> None:
        """Register a model, with its optimizer and schedule if it is trained.

        Raises:
            ValueError: there is no model, or one of that name already.
        """
        if model is None:
            raise ValueError(f"register_model({name!r}) was called without a model")
        if name in self._models:
            raise ValueError(f"A model called {name!r} is registered already; choose another name")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """Return the names of all models, or `names` as a list after checking them."""
        if names is None:
            return list(self._models)
        for name in tolist_if_not(names):
            check_availability(name, list(self._models), what="model")
        return tolist_if_not(names)

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Put models into the mode 'train', or 'eval' (also called 'test')."""
        check_availability(mode, ["train", "eval", "test"], what="mode")
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Write every model's checkpoint to `directory`/<its name>.

        Args:
            epoch: the epoch, from 0, that was just finished.
            is_best, model_name: see `dassl.utils.save_checkpoint`.
            val_result: accuracy on the validation set, if it was measured.
        """
        save_models(self, epoch, directory, is_best, val_result, model_name)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the models' weights from `directory`/<model name>.

        Args:
            epoch: the one to load (epochs counted from 1); by default the newest that all
                models have, or the best with TEST.FINAL_MODEL best_val.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            ValueError: a checkpoint is damaged, or does not fit its model.
        """
        if not directory:
            print("No folder to load a model from is given: the model stays as it is")
            return
        load_models(self, directory, epoch, best=self._validates())

    def resume_model_if_exist(self, directory: str) -> int:
        """Resume from the newest checkpoints or snapshot in `directory` that has all models.

        Damaged files are reported and skipped.

        Returns:
            The number of epochs that are done; 0 if there is nothing to resume from.
        """
        return self._checkpointer.resume(self, directory)

    def extra_state(self) -> dict[str, Any]:
        """Return what checkpoints keep of a trainer beside its registered models.

        Plain data and tensors; it comes back in `load_extra_state` when a run resumes.
        """
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` returned in the run that is resumed."""

    def _validates(self) -> bool:
        """Say whether the model that is best on the validation images is kept."""
        return False

    # A training step

    def model_backward_and_update(self, loss: Tensor, names: str | list[str] | None = None) -> None:
        """Zero the gradients, run backward, and let the optimizers step."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def prograd_backward_and_update(
        self,
        loss_a: Tensor,
        loss_b: Tensor,
        lambda_: float = 1.0,
        names: str | list[str] | None = None,
    ) -> None:
        """Step down `loss_a` without going up `loss_b`, as ProGrad (arXiv 2205.14865) does.

        Where the gradients a and b of a parameter point against each other, a is replaced by a
        less `lambda_` times its part along b.
        """
        chosen = self.get_model_names(names)
        trained = [p for name in chosen for p in self._models[name].parameters() if p.requires_grad]
        self.model_zero_grad(chosen)
        self.detect_anomaly(loss_b)
        b_grads = torch.autograd.grad(loss_b, trained, retain_graph=True, allow_unused=True)
        self.model_backward(loss_a)
        for param, b in zip(trained, b_grads, strict=True):
            if param.grad is not None and b is not None:
                against = (param.grad * b).sum().clamp_max(0) / b.square().sum().clamp_min(1e-30)
                param.grad -= lambda_ * against * b
        self.model_update(chosen)

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        """Drop the gradients of all models that are trained, or of `names`."""
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                optim.zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        """Check that the loss is finite, and run backward."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        """Let the optimizers of all models, or of `names`, take their step."""
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                optim.step()

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Move the schedules to the next epoch; to be called after its last batch."""
        for name in self.get_model_names(names):
            if (sched := self._scheds[name]) is not None:
                sched.step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Return the learning rate of the first model that has an optimizer; 0 if none has."""
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                return optim.param_groups[0]["lr"]
        return 0.0

    def detect_anomaly(self, loss: Tensor) -> None:
        """Check that a loss is finite.

        On a GPU, and in several processes, it is read later: see `FiniteCheck`.

        Raises:
            FloatingPointError: it is infinite or NaN.
        """
        self._finite_check.add(self, {"loss": loss})
        if loss.device.type == "cpu" and world_size() == 1:
            self._finite_check.check_losses(self)

    # TensorBoard

    def init_writer(self, log_dir: str, purge_step: int | None = None) -> None:
        """Write scalars to TensorBoard files in `log_dir` from now on.

        What an interrupted run wrote there of `purge_step` and later is not shown.
        """
        if self._writer is None and is_main():
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            print(f"TensorBoard files are in {log_dir}")
            self._writer = SummaryWriter(log_dir, purge_step=purge_step)

    def close_writer(self) -> None:
        """Close the TensorBoard files, if any are open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> None:
        """Write a number to TensorBoard; without a writer, do nothing."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # What subclasses say

    def before_train(self) -> None:
        """Runs once, before the first epoch."""

    def after_train(self) -> None:
        """Runs once, after the last epoch."""

    def before_epoch(self) -> None:
        """Runs before every epoch."""

    def after_epoch(self) -> None:
        """Runs after every epoch."""

    def run_epoch(self) -> None:
        raise NotImplementedError

    def test(self, split: str | None = None) -> float:
        raise NotImplementedError

    def parse_batch_train(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def parse_batch_test(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def forward_backward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError

    def model_inference(self, input: Any) -> Any:
        raise NotImplementedError


class SimpleTrainer(TrainerBase):
    """A trainer of one data set's classifier: data, checkpoints, tests.

    Attributes:
        cfg, device: configuration, where models live.
        dm: the `DataManager`; its loaders and label tables are attributes here too.
        model, optim, sched: what `build_model` made.
        evaluator, best_result: for tests; best_result is -inf before the first.
    """

    model: nn.Module

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.check_cfg(cfg)
        check_availability(cfg.TEST.FINAL_MODEL, ["last_step", "best_val"], "TEST.FINAL_MODEL")
        self._checkpointer = Checkpointer(cfg.TRAIN.CHECKPOINT_EVERY)
        self.device = device_of(cfg)
        if self.device.type == "cuda":
            check_gpu()
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        broadcast_rng_state()
        with main_first():  # it may download, and keep what it drew
            self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -np.inf

    @property
    def evaluator(self) -> Any:
        """The evaluator, also one that a plugin sets, observed by the hooks."""
        return self._evaluator

    @evaluator.setter
    def evaluator(self, evaluator: Any) -> None:
        if isinstance(evaluator, ObservedEvaluator):  # set back: it is not observed twice
            evaluator = evaluator.evaluator
        self._evaluator = ObservedEvaluator(evaluator, self)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Check what the trainer needs of the configuration; trainers say so here."""

    def build_data_loader(self) -> None:
        """Build the data set and its loaders."""
        self.dm = DataManager(self.cfg)
        self.train_loader_x = self.dm.train_loader_x
        self.train_loader_u = self.dm.train_loader_u  # None without unlabeled images
        self.val_loader = self.dm.val_loader  # None without validation images
        self.test_loader = self.dm.test_loader
        self.num_classes = self.dm.num_classes
        self.num_source_domains = self.dm.num_source_domains
        self.lab2cname = self.dm.lab2cname

    def build_model(self) -> None:
        """Build `self.model`, and register what is trained with `register_model`."""
        raise NotImplementedError(f"{type(self).__name__} has no build_model")

    def train(self) -> None:  # type: ignore[override]
        """Train from `start_epoch` to `max_epoch`, then test."""
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        """Resume if there is something to resume from, check that there is room for checkpoints,
        and open the TensorBoard files.

        Raises:
            FileNotFoundError: RESUME is set, and there is nothing to resume from.
            OSError: there is no room.
            ValueError: the best model on the validation set is wanted, but there is no such set.
        """
        if self._validates() and self.val_loader is None:
            raise ValueError(
                "TEST.FINAL_MODEL is best_val, but the data set has no validation images: "
                "set it to last_step"
            )
        self._resume()
        self._checkpointer.prepare(self, self.cfg.TRAIN.CHECKPOINT_FREQ, self._validates())
        self._save_missing()
        self.init_writer(str(Path(self.output_dir) / "tensorboard"), self._checkpointer.first_step)
        self.time_start = time.time()

    def _resume(self) -> None:
        """Resume from OUTPUT_DIR, or from RESUME where that has nothing yet."""
        given, names = self.cfg.RESUME, self.get_model_names()
        if not given or broadcast_object(lambda: can_resume(Path(self.output_dir), names)):
            self.start_epoch = self.resume_model_if_exist(self.output_dir)
        if not given or self.start_epoch or self._checkpointer.within_epoch:
            return
        self.start_epoch = self.resume_model_if_exist(given)
        self.best_result = -np.inf  # the model that had it stays in the other folder
        if not self.start_epoch and not self._checkpointer.within_epoch:
            found = "; ".join(f"{name}: {describe(Path(given) / name)}" for name in names)
            raise FileNotFoundError(
                f"RESUME is {given!r}, where not every one of {names} has a sound checkpoint to "
                f"go on from (one that is damaged is named above; {found}). Give the folder of "
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
        if not done or self._checkpointer.within_epoch or not self._is_kept(done):
            return
        folders = [Path(self.output_dir) / name for name in self.get_model_names()]
        files = [folder / checkpoint_name(done) for folder in folders]
        if not broadcast_object(lambda: all(file.is_file() for file in files)):
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
        elapsed = datetime.timedelta(seconds=round(time.time() - self.time_start))
        print(f"Elapsed: {elapsed}")
        self.close_writer()

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on 'val' or 'test', by default TEST.SPLIT; return the first result.

        Raises:
            ValueError: another split, or no test images.
        """
        self.set_model_mode("eval")
        split, loader = self._test_split(self.cfg.TEST.SPLIT if split is None else split)
        self.call_hooks("before_test", split)
        self.evaluator.reset()
        print(f"Evaluate on the *{split}* set")
        for batch in self._test_batches(loader, split):
            self.evaluator.process(*batch)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def _test_batches(self, loader: Any, desc: str) -> Iterator[tuple[Any, Any]]:
        """Yield outputs and labels of whole batches, with a progress bar."""
        sharding = BatchSharding(loader)
        bar = None if is_main() else True  # None: no bar without a terminal
        with sharding.active():
            for number, batch in enumerate(tqdm(loader, desc=desc, leave=False, disable=bar)):
                stop_if_requested()
                input, label = self.parse_batch_test(batch)
                yield sharding.gather(number, (self.infer(input), label))

    def infer(self, input: Tensor) -> Any:
        """Call `model_inference` for a batch of a test."""
        return self.model_inference(input)

    def model_inference(self, input: Tensor) -> Tensor:
        """Return what is evaluated: (N, C) scores."""
        return self.model(input)

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return images (N, 3, H, W) and labels (N,) on the device."""
        return self._to_device(batch["img"]), self._to_device(batch["label"])

    def _to_device(self, value: Tensor) -> Tensor:
        return value.to(self.device, non_blocking=True)

    def _validates(self) -> bool:
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


class TrainerX(SimpleTrainer):
    """A trainer on labeled images: calls `forward_backward` for every batch."""

    def train(self) -> None:  # type: ignore[override]
        """Train and test; ValueError if processes cannot share the batches equally."""
        BatchSharding(self.train_loader_x).check_equal_shards()
        super().train()

    def run_epoch(self) -> None:
        """Go once through `train_loader_x`, or as far as `max_steps`."""
        self.set_model_mode("train")
        self.num_batches = whole = len(self.train_loader_x)
        if self.max_steps:
            self.num_batches = max(0, min(whole, self.max_steps - self.epoch * whole))
        with BatchSharding(self.train_loader_x).active():
            for number, batch in self._checkpointer.batches(self, self.train_loader_x):
                if number == self.num_batches:
                    break
                self.batch_idx = number
                self.call_hooks("before_batch")
                summary = self.forward_backward(batch)
                self.call_hooks("after_batch", summary)

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Return images, labels and domains on the device."""
        return tuple(self._to_device(batch[key]) for key in ("img", "label", "domain"))
