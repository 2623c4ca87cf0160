"""An evaluator that tells the hooks of its trainer what it is given and what it finds."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trainer import TrainerBase


class ObservedEvaluator:
    """Calls hooks before and after an evaluator, whoever wrote that, and whoever calls it.

    A wrapper, because plugins bring evaluators and `test` methods of their own, and both know only
    `reset`, `process` and `evaluate`. All other names are those of the evaluator.
    """

    def __init__(self, evaluator: Any, trainer: "TrainerBase") -> None:
        self.evaluator = evaluator
        self.trainer = trainer

    def reset(self) -> None:
        """Forget all batches."""
        self.evaluator.reset()
        self.trainer.call_hooks("before_evaluation")

    def process(self, mo: Any, gt: Any) -> None:
        """Take in the model's output and the ground truth of one batch."""
        self.evaluator.process(mo, gt)
        self.trainer.call_hooks("after_prediction", mo, gt)

    def evaluate(self) -> Any:
        """Return the results of the evaluator."""
        self.trainer.call_hooks("before_results")
        results = self.evaluator.evaluate()
        self.trainer.call_hooks("after_results", results)
        return results

    def __setattr__(self, name: str, value: Any) -> None:
        is_own = name in ("evaluator", "trainer")
        (object.__setattr__ if is_own else setattr)(self if is_own else self.evaluator, name, value)

    def __getattr__(self, name: str) -> Any:
        if name == "evaluator":  # not there yet, when it is copied
            raise AttributeError(name)
        return getattr(self.evaluator, name)
