"""Hooks: what happens beside training. `trainer.register_hook` adds one.

In the order of a run:

    before_train                                     what it resumes from is loaded
        before_epoch
            before_batch, after_batch                for every batch
        after_epoch                                  its batches are done
        before_save                                  for every checkpoint and snapshot
        before_test, before_evaluation, after_prediction, before_results, after_results
    after_train
"""

import math
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dassl.utils import AverageMeter, MetricMeter
from dassl.utils.distributed import all_reduce_max, all_reduce_min_object
from dassl.utils.finite import not_finite

if TYPE_CHECKING:
    from .trainer import TrainerBase

REMEDY = "Lower OPTIM.LR, or train in a wider number format"


class Hook:
    """Base class of hooks: does nothing. Subclasses override the events that they need."""

    def before_train(self, trainer: "TrainerBase") -> None:
        """Called once, after `trainer.before_train()`: what the run resumes from is loaded."""

    def after_train(self, trainer: "TrainerBase") -> None:
        """Called once, after `trainer.after_train()`: the final test is done."""

    def before_epoch(self, trainer: "TrainerBase") -> None:
        """Called before `trainer.run_epoch()`."""

    def after_epoch(self, trainer: "TrainerBase") -> None:
        """Called after `trainer.run_epoch()` and before `trainer.after_epoch()`."""

    def before_batch(self, trainer: "TrainerBase") -> None:
        """Called when a batch is loaded, before `trainer.forward_backward()`."""

    def after_batch(self, trainer: "TrainerBase", summary: Any) -> None:
        """Called with what `trainer.forward_backward()` returned."""

    def before_save(self, trainer: "TrainerBase") -> None:
        """Called before a checkpoint or a snapshot is made."""

    def before_test(self, trainer: "TrainerBase", split: str) -> None:
        """Called by `trainer.test()` with the split ('val' or 'test') that is tested.

        Trainers with a `test` of their own may leave it out; the next four come in any case.
        """

    def before_evaluation(self, trainer: "TrainerBase") -> None:
        """Called when the evaluator is reset."""

    def after_prediction(self, trainer: "TrainerBase", output: Any, label: Any) -> None:
        """Called with what the evaluator was given for a batch."""

    def before_results(self, trainer: "TrainerBase") -> None:
        """Called before the evaluator computes its results."""

    def after_results(self, trainer: "TrainerBase", results: Any) -> None:
        """Called with the results of the evaluator."""

    def state_dict(self) -> dict[str, Any]:
        """Return what checkpoints and snapshots keep of this hook: plain data and tensors.

        It is kept by the name of the class: register one hook of a class that has a state.
        Called in every process of a run; what rank 0 returns is saved.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned in the run that is resumed."""


def is_last_batch(trainer: "TrainerBase") -> bool:
    """Say whether the current batch is the last one of its epoch."""
    return trainer.batch_idx + 1 == trainer.num_batches


def steps_before(trainer: "TrainerBase") -> int:
    """Count the run's steps before the current epoch, the last of which `max_steps` may cut."""
    if trainer.max_steps and trainer.epoch + 1 == trainer.max_epoch:
        return trainer.max_steps - trainer.num_batches
    return trainer.epoch * trainer.num_batches


def is_printed(trainer: "TrainerBase") -> bool:
    """Say whether there is a line for the current batch."""
    frequency = trainer.cfg.TRAIN.PRINT_FREQ
    return (trainer.batch_idx + 1) % frequency == 0 or trainer.num_batches < frequency


class FiniteCheck(Hook):
    """Ends a run whose losses or weights became infinite or NaN, before anything is saved.

    On a GPU losses are read when a line is printed: steps do not wait for them.
    """

    MOST = 1000  # batches whose losses are kept unread

    def __init__(self) -> None:
        self._losses: dict[int, dict[str, Any]] = {}  # by batch

    def add(self, trainer: "TrainerBase", values: Mapping[str, Any]) -> None:
        """Keep named scalars of the current batch; nothing is read from the device."""
        kept = self._losses.setdefault(trainer.batch_idx, {})
        for name, value in values.items():
            if isinstance(value, int | float):
                kept[name] = kept.get(name, 0) + value  # of two values neither is lost
            elif hasattr(value, "detach") and value.numel() == 1:
                kept[name] = kept.get(name, 0) + value.detach()

    def after_batch(self, trainer: "TrainerBase", summary: Any) -> None:
        self.add(trainer, summary if isinstance(summary, Mapping) else {})
        read = trainer.device.type == "cpu" or len(self._losses) >= self.MOST
        if read or is_printed(trainer) or is_last_batch(trainer):
            self.check_losses(trainer)

    def after_epoch(self, trainer: "TrainerBase") -> None:
        self.check_losses(trainer)

    def before_save(self, trainer: "TrainerBase") -> None:
        self.check_losses(trainer)
        check_weights(trainer)

    def check_losses(self, trainer: "TrainerBase") -> None:
        """Check the losses since the last call, of all processes. Collective.

        Raises:
            FloatingPointError: one is infinite or NaN.
        """
        batches, self._losses = self._losses, {}
        found = ((batch, bad) for batch, values in batches.items() if (bad := _bad_losses(values)))
        first = next(found, None)
        if not any(all_reduce_max(int(first is not None))):
            return
        batch, names = all_reduce_min_object(first) or (0, [])
        raise FloatingPointError(
            f"{' and '.join(map(repr, names))} became infinite or NaN in epoch {trainer.epoch + 1}"
            f", batch {batch + 1} of {trainer.num_batches}. What was saved before is kept, nothing "
            f"since. {REMEDY}"
        )


def _bad_losses(values: Mapping[str, Any]) -> list[str]:
    """Name the values that are not finite, if a loss is among them; terms before their sum."""
    bad = [name for name, value in values.items() if not math.isfinite(float(value))]
    if not any("loss" in name for name in bad):
        return []
    return [name for name in bad if name != "loss"] or bad


def check_weights(trainer: "TrainerBase") -> None:
    """Check the trained weights of all models.

    Raises:
        FloatingPointError: one is infinite or NaN.
    """
    trained = {
        f"{model}.{name}": value
        for model, module in trainer._models.items()
        for name, value in module.named_parameters()
        if value.requires_grad
    }
    if bad := not_finite(trained):
        raise FloatingPointError(
            f"the weights {', '.join(bad[:3])} became infinite or NaN and are not saved. {REMEDY}"
        )


class ProgressLog(Hook):
    """Prints a line every TRAIN.PRINT_FREQ batches, and writes its values to TensorBoard."""

    def __init__(self) -> None:
        self._begin = time.time()
        self._lr = 0.0
        self._reset()

    def _reset(self) -> None:
        self._losses = MetricMeter()
        self._times = {"time": AverageMeter(), "data": AverageMeter()}

    def before_epoch(self, trainer: "TrainerBase") -> None:
        self._begin = time.time()

    def before_batch(self, trainer: "TrainerBase") -> None:
        self._times["data"].update(time.time() - self._begin)
        self._lr = trainer.get_current_lr()  # before a plugin moves on to the next epoch's

    def after_batch(self, trainer: "TrainerBase", summary: Any) -> None:
        self._losses.update(summary)
        shown = is_printed(trainer)
        text, averages = "", {}
        if shown or is_last_batch(trainer):
            # reading waits for the device: it belongs to the time that is measured
            losses = self._losses.all_reduce_mean()
            text = str(losses)
            averages = {name: meter.avg for name, meter in losses.meters.items()}
        self._times["time"].update(time.time() - self._begin)
        if shown:
            self._print_line(trainer, text)
        if shown or is_last_batch(trainer):
            self._write_scalars(trainer, averages)
        self._begin = time.time()

    def _print_line(self, trainer: "TrainerBase", losses: str) -> None:
        batch, batches = trainer.batch_idx + 1, trainer.num_batches
        steps = trainer.max_steps or trainer.max_epoch * batches
        left = steps - steps_before(trainer) - batch
        info = [
            f"epoch [{trainer.epoch + 1}/{trainer.max_epoch}]",
            f"batch [{batch}/{batches}]",
            *(f"{name} {meter.val:.3f} ({meter.avg:.3f})" for name, meter in self._times.items()),
            losses,
            f"lr {self._lr:.4e}",
            f"eta {timedelta(seconds=int(self._times['time'].avg * left))}",
        ]
        print(" ".join(part for part in info if part))

    def _write_scalars(self, trainer: "TrainerBase", averages: dict[str, float]) -> None:
        step = steps_before(trainer) + trainer.batch_idx
        epoch = trainer.epoch + (trainer.batch_idx + 1) / trainer.num_batches  # how many are done
        for name, value in {**averages, "lr": self._lr, "epoch": epoch}.items():
            trainer.write_scalar(f"train/{name}", value, step)

    def after_epoch(self, trainer: "TrainerBase") -> None:
        self._reset()

    def state_dict(self) -> dict[str, Any]:
        return {
            "losses": self._losses.all_reduce_mean().state_dict(),
            **{name: meter.state_dict() for name, meter in self._times.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._losses.load_state_dict(state["losses"])
        for name, meter in self._times.items():
            meter.load_state_dict(state[name])
