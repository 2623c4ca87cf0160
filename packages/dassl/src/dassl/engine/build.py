"""Trainers by configuration."""

from typing import TYPE_CHECKING

from yacs.config import CfgNode

from dassl.utils import Registry, check_availability

if TYPE_CHECKING:
    from .base import TrainerBase

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> "TrainerBase":
    """Build the trainer `cfg.TRAINER.NAME`.

    Raises:
        ValueError: there is none of that name.
    """
    name = cfg.TRAINER.NAME
    known = TRAINER_REGISTRY.registered_names()
    check_availability(name, known, what="trainer (TRAINER.NAME)")
    if cfg.VERBOSE:
        print(f"Loading trainer: {name}")
    return TRAINER_REGISTRY.get(name)(cfg)
