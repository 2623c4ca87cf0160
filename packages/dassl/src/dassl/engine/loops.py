"""Trainers that go through one loader, or through two side by side, once an epoch."""

import math
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any

from torch import Tensor

from dassl.data.division import Division, divided_alike
from dassl.data.seeding import batches_from, loader_seed
from dassl.utils import AverageMeter, MetricMeter, check_availability, set_random_seed
from dassl.utils.distributed import world_size

from .finite import LossWatch
from .simple import SimpleTrainer


class _BatchLoop(SimpleTrainer):
    """Calls `forward_backward` for every batch, prints how it goes, writes scalars.

    Attributes:
        num_batches: batches in this epoch.
        batch_idx: the current one, from 0.
    """

    def _run_batches(
        self, batches: Iterable[tuple[Any, ...]], start: int, division: Division
    ) -> None:
        """Go through `batches`, the first of which is number `start`."""
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        meters: dict[str, Any] = {
            "losses": losses,
            "batch_time": batch_time,
            "data_time": data_time,
        }
        for name, state in self._take_interrupted().items():
            meter = meters[name]
            meter.load_share(state) if meter is losses else meter.load_state_dict(state)
        self._watch, self.batch_idx = LossWatch(), start - 1
        begin = time.time()
        for self.batch_idx, batch in enumerate(batches, start):
            data_time.update(time.time() - begin)
            lr = self.get_current_lr()  # before a plugin moves on to the next epoch's
            summary = self._step(batch, division)
            losses.update(summary)
            self._watch.add(self.batch_idx, summary)
            if self.device.type == "cpu" or self._watch.is_full:
                self._read(losses)
            if self._is_printed() or self._is_last():
                # reading waits for the device: it belongs to the time that is measured
                whole = self._read(losses)
                batch_time.update(time.time() - begin)
                if self._is_printed():
                    self._print_line(batch_time, data_time, str(whole), lr)
                self._write_scalars({**_averages(whole), "lr": lr})
            else:
                batch_time.update(time.time() - begin)
            if self._is_due():
                now = {**meters, "losses": self._read(losses)}
                self._save_progress({name: meter.state_dict() for name, meter in now.items()})
            begin = time.time()

    def _step(self, batch: tuple[Any, ...], division: Division) -> Any:
        """Return what a step makes of a batch; of several processes, this one's share of it."""
        if world_size() == 1:
            return self.forward_backward(*batch)
        self._weight = division.weight(self.batch_idx)
        summary = self.forward_backward(*batch)
        if not division.is_even(self.batch_idx):
            # what was drawn for more images moved the generators further
            seed = loader_seed(division.loader) or 0
            set_random_seed((seed + self.epoch * self.num_batches + self.batch_idx) % 2**32)
        if not isinstance(summary, Mapping):
            return summary
        return {name: value * self._weight for name, value in summary.items()}

    def _is_last(self) -> bool:
        return self.batch_idx + 1 == self.num_batches

    def _is_printed(self) -> bool:
        frequency = self.cfg.TRAIN.PRINT_FREQ
        return (self.batch_idx + 1) % frequency == 0 or self.num_batches < frequency

    def _read(self, losses: MetricMeter) -> MetricMeter:
        """Return what was taken in since the epoch began, of all processes.

        Raises:
            FloatingPointError: the mean of one that is called a loss is infinite or no number.
        """
        losses = losses.of_all_processes()
        if all(map(math.isfinite, _averages(losses).values())):
            self._watch.forget()
        else:
            self._watch.check(self.epoch, self.num_batches)
        self.raise_on_anomaly()
        return losses

    def _print_line(
        self, batch_time: AverageMeter, data_time: AverageMeter, losses: str, lr: float
    ) -> None:
        left = (self.max_epoch - self.epoch) * self.num_batches - self.batch_idx - 1
        eta = timedelta(seconds=int(batch_time.avg * left))
        info = [
            f"epoch [{self.epoch + 1}/{self.max_epoch}]",
            f"batch [{self.batch_idx + 1}/{self.num_batches}]",
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f})",
            f"data {data_time.val:.3f} ({data_time.avg:.3f})",
            losses,
            f"lr {lr:.4e}",
            f"eta {eta}",
        ]
        print(" ".join(part for part in info if part))

    def _write_scalars(self, values: dict[str, float]) -> None:
        step = self.epoch * self.num_batches + self.batch_idx
        values = {**values, "epoch": (step + 1) / self.num_batches}  # how many are done
        for name, value in values.items():
            self.write_scalar(f"train/{name}", value, step)


def _averages(losses: MetricMeter) -> dict[str, float]:
    return {name: meter.avg for name, meter in losses.meters.items()}


class TrainerX(_BatchLoop):
    """A trainer on labelled images: `forward_backward(batch)`."""

    def run_epoch(self) -> None:
        """Go once through `train_loader_x`."""
        self.num_batches = len(self.train_loader_x)
        start = self._first_batch()
        division = Division(self.train_loader_x)
        with division.in_force():
            batches = batches_from(self.train_loader_x, start)
            self._run_batches(((batch,) for batch in batches), start, division)

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Return images, labels and domains on the device."""
        return tuple(self._to_device(batch[key]) for key in ("img", "label", "domain"))


class TrainerXU(_BatchLoop):
    """A trainer on labelled and unlabelled images: `forward_backward(batch_x, batch_u)`."""

    def run_epoch(self) -> None:
        """Go through both loaders; TRAIN.COUNT_ITER says which one's length counts.

        Raises:
            ValueError: there are no unlabelled images.
        """
        if self.train_loader_u is None:
            raise ValueError(f"{type(self).__name__} needs unlabelled images: train_u is empty")
        len_x, len_u = len(self.train_loader_x), len(self.train_loader_u)
        lengths = {"train_x": len_x, "train_u": len_u, "smaller_one": min(len_x, len_u)}
        count = self.cfg.TRAIN.COUNT_ITER
        check_availability(count, list(lengths), what="TRAIN.COUNT_ITER")
        self.num_batches = lengths[count]
        start = self._first_batch()
        loaders = (self.train_loader_x, self.train_loader_u)
        divisions = divided_alike(loaders, self.num_batches)
        with divisions[0].in_force(), divisions[1].in_force():
            pairs = zip(*(batches_from(x, start, endless=True) for x in loaders), strict=True)
            self._run_batches(islice(pairs, self.num_batches - start), start, divisions[0])

    def parse_batch_train(
        self, batch_x: dict[str, Any], batch_u: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        """Return images, labels and domains of the labelled batch, and the other's images."""
        labelled = [self._to_device(batch_x[key]) for key in ("img", "label", "domain")]
        return (*labelled, self._to_device(batch_u["img"]))
