"""Optimizers and learning-rate schedules by configuration."""

from .lr_scheduler import AVAI_SCHEDS, EpochSchedule, build_lr_scheduler
from .optimizer import AVAI_OPTIMS, build_optimizer

__all__ = [
    "AVAI_OPTIMS",
    "AVAI_SCHEDS",
    "EpochSchedule",
    "build_lr_scheduler",
    "build_optimizer",
]
