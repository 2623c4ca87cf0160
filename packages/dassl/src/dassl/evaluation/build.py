"""Evaluators by configuration."""

from typing import TYPE_CHECKING, Any

from yacs.config import CfgNode

from dassl.utils import Registry
from dassl.utils.registry import pick

if TYPE_CHECKING:
    from .evaluator import EvaluatorBase

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> "EvaluatorBase":
    """Build the evaluator `cfg.TEST.EVALUATOR`.

    Raises:
        ValueError: there is none of that name.
    """
    return pick(EVALUATOR_REGISTRY, cfg.TEST.EVALUATOR, "evaluator", "TEST.EVALUATOR", cfg.VERBOSE)(
        cfg, **kwargs
    )
