"""Evaluators. They are fed batch by batch and give their result at the end."""

import os
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.utils import mkdir_if_missing
from dassl.utils.distributed import is_main

from .build import EVALUATOR_REGISTRY


class EvaluatorBase:
    """What a trainer asks of an evaluator."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Take in the model's output and the ground truth of one batch."""
        raise NotImplementedError

    def evaluate(self) -> "OrderedDict[str, float]":
        """Print and return the results, the most important one first."""
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error rate and macro F1, all in percent; on request per class too."""

    def __init__(
        self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **kwargs: Any
    ) -> None:
        """`lab2cname`: names of the labels, needed for TEST.PER_CLASS_RESULT only."""
        super().__init__(cfg)
        self._lab2cname = lab2cname or {}
        if cfg.TEST.PER_CLASS_RESULT and not lab2cname:
            raise ValueError("TEST.PER_CLASS_RESULT needs the names of the classes: lab2cname")
        self.reset()

    def reset(self) -> None:
        self._y_true: list[Tensor] = []
        self._y_pred: list[Tensor] = []
        self._answered: list[Tensor] = []

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Take in a batch; nothing is read from the device until `evaluate`.

        Args:
            mo: (N, C) scores.
            gt: (N,) labels.
        """
        self._y_pred.append(mo.argmax(dim=1))
        # classes may be ruled out by minus infinity, but not all of them
        self._answered.append(mo.amax(dim=1).isfinite())
        self._y_true.append(gt)

    def evaluate(self) -> "OrderedDict[str, float]":
        """Print the result block and return accuracy, error_rate, macro_f1 [, perclass_accuracy].

        Raises:
            ValueError: no batch came in.
            FloatingPointError: an image has no answer, see `check_answered`.
        """
        if not self._y_true:
            raise ValueError("There is nothing to evaluate: no batch was processed")
        if self._answered:  # a plugin's own `process` may not say
            check_answered(torch.cat(self._answered))
        counts = _confusion(torch.cat(self._y_true).cpu(), torch.cat(self._y_pred).cpu())
        total = int(counts.sum())
        correct = int(counts.diagonal().sum())
        accuracy = 100.0 * correct / total
        results = OrderedDict(
            accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=100.0 * macro_f1(counts)
        )
        print(
            "=> result\n"
            f"* total: {total:,}\n"
            f"* correct: {correct:,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {results['error_rate']:.1f}%\n"
            f"* macro_f1: {results['macro_f1']:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._report_classes(counts)
        if self.cfg.TEST.COMPUTE_CMAT and is_main():
            self._save_confusion(counts)
        return results

    def _report_classes(self, counts: Tensor) -> float:
        """Print a line per class that occurs; return the mean of the classes' accuracies."""
        print("=> per-class result")
        accuracies = []
        for label in counts.sum(dim=1).nonzero().flatten().tolist():
            total, correct = int(counts[label].sum()), int(counts[label, label])
            accuracies.append(100.0 * correct / total)
            print(
                f"* class: {label} ({self._lab2cname[label]})\ttotal: {total:,}\t"
                f"correct: {correct:,}\tacc: {accuracies[-1]:.1f}%"
            )
        mean = sum(accuracies) / len(accuracies)
        print(f"* average: {mean:.1f}%")
        return mean

    def _save_confusion(self, counts: Tensor) -> None:
        """Save the confusion matrix (row: label, column: answer), rows summing to 1 or 0."""
        rows = counts.sum(dim=1, keepdim=True).clamp_min(1)
        mkdir_if_missing(self.cfg.OUTPUT_DIR)
        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        torch.save(counts.double() / rows, path)
        print(f"Confusion matrix is saved to {path}")


def check_answered(answered: Tensor) -> None:
    """Check that all images have an answer: (N,), whether their highest score is finite.

    Raises:
        FloatingPointError: one has none.
    """
    if lacking := int((~answered).sum()):
        raise FloatingPointError(
            f"{lacking:,} of {len(answered):,} images have no answer: their scores are infinite or "
            "NaN, so there is no result. Half precision may be too narrow: test the checkpoint "
            "with PREC fp32 (--eval-only). If that is what it has, look for a division by zero in "
            "the method, or train with a lower OPTIM.LR"
        )


def macro_f1(counts: Tensor) -> float:
    """Return the mean F1 over the classes that occur as label or as answer.

    Args:
        counts: (C, C), row: label, column: answer.
    """
    hits = counts.diagonal().double()
    occurrences = (counts.sum(dim=0) + counts.sum(dim=1)).double()  # 2 TP + FP + FN
    occurs = occurrences > 0
    return float((2 * hits[occurs] / occurrences[occurs]).mean())


def _confusion(labels: Tensor, answers: Tensor) -> Tensor:
    """Count (label, answer) pairs into a (C, C) matrix, C the largest of them plus one."""
    size = int(torch.maximum(labels.max(), answers.max())) + 1
    return torch.bincount(labels * size + answers, minlength=size * size).view(size, size)
