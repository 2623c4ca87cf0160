"""All trainer classes under the path that plugins know."""

from .base import TrainerBase
from .loops import TrainerX, TrainerXU
from .simple import SimpleTrainer
from .simple_net import SimpleNet

__all__ = ["SimpleNet", "SimpleTrainer", "TrainerBase", "TrainerX", "TrainerXU"]
