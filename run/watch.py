"""Watching a run from outside: what it answers, and what it takes.

Trainers that were written for upstream Dassl return one number and forget the rest. So what a
record needs is noted where every trainer passes by: its epochs, its steps and its evaluator.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dassl.data.datasets import Datum
from dassl.engine import SimpleTrainer
from dassl.evaluation.evaluator import check_answered


class RunWatch:
    """Notes what a trainer that was just built does.

    results: of the last evaluation: what the evaluator found, split, total; empty before it
    test_seconds: what that took
    resumed_from: epochs that were done when the run was continued; 0 for one that was not
    """

    def __init__(self, trainer: SimpleTrainer, start: float):
        """`start`: when the run began, by `time.perf_counter`."""
        self.trainer = trainer
        self.results: dict[str, Any] = {}
        self.resumed_from = 0
        self._began = {"run": start}
        self._spent = {"seconds": 0.0, "train_seconds": 0.0, "train_batches": 0}
        self.test_seconds = 0.0
        self._answers: list[tuple[Tensor, ...]] = []
        self._split = trainer.cfg.TEST.SPLIT
        self._watch(trainer, "run_epoch", self._run_epoch)
        self._watch(trainer, "forward_backward", self._forward_backward)
        self._watch(trainer, "test", self._test)
        self._watch(trainer.evaluator, "reset", self._reset)
        self._watch(trainer.evaluator, "process", self._process)
        self._watch(trainer.evaluator, "evaluate", self._evaluate)
        trainer.watch = self  # checkpoints carry what `spent` says

    @staticmethod
    def _watch(owner: object, name: str, watcher: Callable) -> None:
        setattr(owner, name, partial(watcher, getattr(owner, name)))

    # Time, which a run that is continued adds to

    def spent(self) -> dict[str, float]:
        """Seconds of the run, seconds and batches of its epochs, so far."""
        now, spent = time.perf_counter(), dict(self._spent)
        spent["seconds"] += now - self._began["run"]
        spent["train_seconds"] += now - self._began.get("epoch", now)
        return spent

    def go_on_from(self, spent: dict[str, float], epochs: int) -> None:
        """Take over what the processes before this one spent on what it continues."""
        self.resumed_from = epochs
        for name in self._spent:
            self._spent[name] += spent.get(name, 0)

    def _run_epoch(self, run_epoch: Callable, *args: Any, **kwargs: Any) -> Any:
        self._began["epoch"] = time.perf_counter()
        try:
            return run_epoch(*args, **kwargs)
        finally:
            self._spent["train_seconds"] += time.perf_counter() - self._began.pop("epoch")

    def _forward_backward(self, forward_backward: Callable, *args: Any, **kwargs: Any) -> Any:
        self._spent["train_batches"] += 1
        return forward_backward(*args, **kwargs)

    # Answers

    def _test(self, test: Callable, split: str | None = None) -> Any:
        self._split = split or self.trainer.cfg.TEST.SPLIT
        return test(split) if split else test()

    def _reset(self, reset: Callable) -> None:
        reset()
        self._answers = []
        self._began["test"] = time.perf_counter()

    def _process(self, process: Callable, mo: Any, gt: Any) -> None:
        process(mo, gt)
        if isinstance(mo, Tensor) and mo.dim() == 2:  # a plugin's evaluator may take other things
            best = mo.float().softmax(dim=1).max(dim=1)
            self._answers.append((gt, best.indices, best.values))

    def _evaluate(self, evaluate: Callable) -> Any:
        if self._answers:  # whatever a plugin's evaluator would make of them
            check_answered(torch.cat([best.isfinite() for *_, best in self._answers]))
        found = evaluate()
        self.test_seconds = time.perf_counter() - self._began.pop("test")
        split = "test" if self.test_loader is self.trainer.test_loader else "val"
        self.results = {"split": split, "total": len(self.test_loader.dataset), **found}
        return found

    @property
    def test_loader(self) -> Any:
        """The loader of the last evaluation."""
        val = self.trainer.val_loader if self._split == "val" else None
        return self.trainer.test_loader if val is None else val

    def answers(self) -> tuple[list[int], list[int], list[float]]:
        """Labels, answers and their probabilities in the last evaluation, picture by picture."""
        columns = zip(*self._answers, strict=True)
        labels, answers, probabilities = (torch.cat(column).tolist() for column in columns)
        return labels, answers, probabilities

    @property
    def has_answers(self) -> bool:
        """Whether the evaluator was given scores (N, C) for every picture."""
        return sum(len(labels) for labels, *_ in self._answers) == len(self.test_loader.dataset)

    def tested(self) -> list[Datum] | None:
        """The pictures of the last evaluation, in its order; None where that cannot be told."""
        loader = self.test_loader
        items = getattr(loader.dataset, "data_source", None)
        if not self.has_answers or items is None:
            return None
        # Our samplers give the same order in every pass; a plugin's loader may not.
        tested = [items[index] for index in loader.sampler]
        return tested if [item.label for item in tested] == self.answers()[0] else None
