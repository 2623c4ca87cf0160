"""Real runs of train.py, each in a process of its own that need not import anything first."""

import multiprocessing
import os
import warnings

import torch

import train
from run.config import default_config

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    default_config()  # imports all trainers and data sets
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401

torch.set_num_threads(1)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


def start(arguments: list[str]) -> multiprocessing.Process:
    process = CONTEXT.Process(target=_train, args=(arguments,))
    process.start()
    return process


def _train(arguments: list[str]) -> None:
    multiprocessing.set_start_method("fork", force=True)  # as it is for a command
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    raise SystemExit(train.main(arguments))
