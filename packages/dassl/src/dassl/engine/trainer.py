"""All trainer classes under the path that plugins know, and what else they take from there."""

import datetime
import os.path as osp
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dassl.data import DataManager
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone, build_head
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    resume_from_checkpoint,
    save_checkpoint,
    tolist_if_not,
)

from .base import TrainerBase
from .loops import TrainerX, TrainerXU
from .simple import SimpleTrainer
from .simple_net import SimpleNet

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = [
    "AverageMeter",
    "DataManager",
    "MetricMeter",
    "OrderedDict",
    "SimpleNet",
    "SimpleTrainer",
    "SummaryWriter",
    "TrainerBase",
    "TrainerX",
    "TrainerXU",
    "build_backbone",
    "build_evaluator",
    "build_head",
    "build_lr_scheduler",
    "build_optimizer",
    "count_num_param",
    "datetime",
    "load_checkpoint",
    "load_pretrained_weights",
    "mkdir_if_missing",
    "nn",
    "np",
    "osp",
    "resume_from_checkpoint",
    "save_checkpoint",
    "time",
    "tolist_if_not",
    "torch",
    "tqdm",
]


def __getattr__(name: str) -> Any:
    if name == "SummaryWriter":  # slow to import
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
