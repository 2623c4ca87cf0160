"""Optimizers and learning-rate schedules by configuration."""

from .lr_scheduler import AVAI_SCHEDS, PER_STEP, EpochSchedule, build_lr_scheduler, cosine_per_step
from .optimizer import AVAI_OPTIMS, build_optimizer

__all__ = [
    "AVAI_OPTIMS",
    "AVAI_SCHEDS",
    "PER_STEP",
    "EpochSchedule",
    "build_lr_scheduler",
    "build_optimizer",
    "cosine_per_step",
]
