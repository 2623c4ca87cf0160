"""Records the predictions and the timings of a run.

A hook, so that it also serves trainers that were written for upstream Dassl, which return one
number and forget the rest.
"""

import time
from typing import Any

import torch
from torch import Tensor

from dassl.data.datasets import Datum
from dassl.engine import Hook, SimpleTrainer, TrainerBase
from dassl.evaluation.evaluator import check_answered


class RunRecorder(Hook):
    """Records what a trainer does; to be registered before it trains or tests.

    results: of the last evaluation: those of the evaluator, split, total; empty before it
    test_seconds: what that took
    resumed_from: epochs that were done when the run was continued; 0 for one that was not
    """

    def __init__(self, trainer: SimpleTrainer, start: float):
        """`start`: when the run began, by `time.perf_counter`."""
        self.trainer = trainer
        self.results: dict[str, Any] = {}
        self.resumed_from = 0
        self.test_seconds = 0.0
        self._began = {"run": start}
        self._spent = {"seconds": 0.0, "train_seconds": 0.0, "train_batches": 0}
        self._saw_batches = False  # not of a trainer with a loop of its own
        self._predictions: list[tuple[Tensor, ...]] = []
        self._split = self._announced = ""

    # Time, which a run that is continued adds to

    def spent(self) -> dict[str, float]:
        """Seconds of the run, seconds and batches of its epochs, so far."""
        now, spent = time.perf_counter(), dict(self._spent)
        spent["seconds"] += now - self._began["run"]
        spent["train_seconds"] += now - self._began.get("epoch", now)
        return spent

    def state_dict(self) -> dict[str, Any]:
        return {**self.spent(), "saw_batches": self._saw_batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self._spent:
            self._spent[name] += state.get(name, 0)
        self._saw_batches = state.get("saw_batches", False)

    def before_train(self, trainer: TrainerBase) -> None:
        self.resumed_from = trainer.start_epoch

    def before_epoch(self, trainer: TrainerBase) -> None:
        self._began["epoch"] = time.perf_counter()

    def after_batch(self, trainer: TrainerBase, summary: Any) -> None:
        self._spent["train_batches"] += 1
        self._saw_batches = True

    def after_epoch(self, trainer: TrainerBase) -> None:
        self._spent["train_seconds"] += time.perf_counter() - self._began.pop("epoch")
        if not self._saw_batches:  # the trainer has a loop of its own
            self._spent["train_batches"] += trainer.num_batches

    # Predictions

    def before_test(self, trainer: TrainerBase, split: str) -> None:
        self._announced = split

    def before_evaluation(self, trainer: TrainerBase) -> None:
        self._split, self._announced = self._announced or trainer.cfg.TEST.SPLIT, ""
        self._predictions = []
        self._began["test"] = time.perf_counter()

    def after_prediction(self, trainer: TrainerBase, output: Any, label: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 2:  # a plugin's may be other things
            best = output.float().softmax(dim=1).max(dim=1)
            self._predictions.append((label, best.indices, best.values))

    def before_results(self, trainer: TrainerBase) -> None:
        if self._predictions:  # whatever a plugin's evaluator would make of them
            check_answered(torch.cat([best.isfinite() for *_, best in self._predictions]))

    def after_results(self, trainer: TrainerBase, results: Any) -> None:
        self.test_seconds = time.perf_counter() - self._began.pop("test")
        split = "test" if self.test_loader is self.trainer.test_loader else "val"
        self.results = {"split": split, "total": len(self.test_loader.dataset), **results}

    @property
    def test_loader(self) -> Any:
        """The loader of the last evaluation."""
        val = self.trainer.val_loader if self._split == "val" else None
        return self.trainer.test_loader if val is None else val

    def predictions(self) -> tuple[list[int], list[int], list[float]]:
        """Labels, predictions and their probabilities in the last evaluation, image by image."""
        columns = zip(*self._predictions, strict=True)
        labels, predictions, probabilities = (torch.cat(column).tolist() for column in columns)
        return labels, predictions, probabilities

    @property
    def has_predictions(self) -> bool:
        """Whether the evaluator was given scores (N, C) for every image."""
        count = sum(len(labels) for labels, *_ in self._predictions)
        return count == len(self.test_loader.dataset)

    def tested(self) -> list[Datum] | None:
        """The images of the last evaluation, in its order; None where that is not known."""
        loader = self.test_loader
        items = getattr(loader.dataset, "data_source", None)
        if not self.has_predictions or items is None:
            return None
        # Our samplers give the same order in every pass; a plugin's loader may not.
        tested = [items[index] for index in loader.sampler]
        return tested if [item.label for item in tested] == self.predictions()[0] else None
