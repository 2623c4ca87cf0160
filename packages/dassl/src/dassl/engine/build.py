"""Trainers by configuration."""

from typing import TYPE_CHECKING

from yacs.config import CfgNode

from dassl.utils import Registry
from dassl.utils.registry import pick

if TYPE_CHECKING:
    from .trainer import SimpleTrainer

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> "SimpleTrainer":
    """Build the trainer `cfg.TRAINER.NAME`.

    Raises:
        ValueError: there is none of that name.
    """
    return pick(TRAINER_REGISTRY, cfg.TRAINER.NAME, "trainer", "TRAINER.NAME", cfg.VERBOSE)(cfg)
