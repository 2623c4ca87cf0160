"""Runs of trainers: what they leave, and runs that are killed at a chosen call and taken up."""

import random
from pathlib import Path

import pytest
import torch

from dassl.engine import build_trainer
from dassl.engine.checkpointing import can_resume
from dassl.utils import set_random_seed

ALWAYS = ("TRAIN.CHECKPOINT_EVERY", "1 step")
OPTIONS = {
    "sgd": ("OPTIM.NAME", "sgd"),
    "adamw": ("OPTIM.NAME", "adamw", "TRAIN.CHECKPOINT_FREQ", 1),
    "best_val": ("TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 1),
    "class_sampler": (
        *("DATALOADER.TRAIN_X.SAMPLER", "RandomClassSampler", "DATALOADER.TRAIN_X.N_INS", 2),
    ),
}  # fmt: skip


class Killed(BaseException):
    """What nothing in the code under test may expect."""


def weights(trainer):
    return torch.cat(
        [p.detach().flatten() for m in trainer._models.values() for p in m.parameters()]
    )


def checkpoints(cfg, model="learner"):
    folder = Path(cfg.OUTPUT_DIR) / model
    return sorted(path.name for path in folder.iterdir() if path.name != "checkpoint")


def forget_everything():
    """A new process has its generators in any state."""
    set_random_seed(random.randrange(1000))


def cut_off(make_cfg, options, break_off):
    """Train under `break_off(trainer, monkeypatch)`: the trainer, or None if it was killed."""
    trainer = build_trainer(make_cfg(*options))
    with pytest.MonkeyPatch.context() as patch:
        break_off(trainer, patch)
        if can_resume(Path(trainer.output_dir), trainer.get_model_names()):
            forget_everything()
        try:
            trainer.train()
        except Killed:
            return None
    return trainer


def kill_in(owner, name, call, after=False):
    """Let the `call`-th call of `owner.name` be the last thing that happens."""

    def break_off(trainer, patch):
        target = trainer if owner == "trainer" else owner
        original, calls = getattr(target, name), []

        def dying(*args, **kwargs):
            calls.append(1)
            if len(calls) == call and not after:
                raise Killed
            result = original(*args, **kwargs)
            if len(calls) == call:
                raise Killed
            return result

        patch.setattr(target, name, dying)

    return break_off


def whole_and_broken(make_cfg, tmp_path, options, call=6, change=lambda trainer: None):
    """A trainer that ran through, and one that takes up a run killed after step `call`."""
    options = (*options, *ALWAYS)
    whole = build_trainer(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    change(whole)
    whole.train()

    def break_off(trainer, patch):
        change(trainer)
        kill_in("trainer", "forward_backward", call + 1)(trainer, patch)

    assert cut_off(make_cfg, options, break_off) is None
    resumed = build_trainer(make_cfg(*options))
    change(resumed)
    return whole, resumed
