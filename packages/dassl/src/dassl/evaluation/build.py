"""Evaluators by configuration."""

from typing import TYPE_CHECKING, Any

from yacs.config import CfgNode

from dassl.utils import Registry, check_availability

if TYPE_CHECKING:
    from .evaluator import EvaluatorBase

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> "EvaluatorBase":
    """Build the evaluator `cfg.TEST.EVALUATOR`.

    Raises:
        ValueError: there is none of that name.
    """
    name = cfg.TEST.EVALUATOR
    known = EVALUATOR_REGISTRY.registered_names()
    check_availability(name, known, what="evaluator (TEST.EVALUATOR)")
    if cfg.VERBOSE:
        print(f"Loading evaluator: {name}")
    return EVALUATOR_REGISTRY.get(name)(cfg, **kwargs)
