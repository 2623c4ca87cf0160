"""Trainers: what every training run does, in the order it is done."""

from .build import TRAINER_REGISTRY, build_trainer
from .hooks import Hook
from .trainer import SimpleTrainer, TrainerBase, TrainerX

__all__ = [
    "TRAINER_REGISTRY",
    "Hook",
    "SimpleTrainer",
    "TrainerBase",
    "TrainerX",
    "build_trainer",
]
