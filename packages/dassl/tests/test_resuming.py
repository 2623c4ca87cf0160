"""Runs that are cut off anywhere end as if they had not been."""

import os
import random
from pathlib import Path

import pytest
import torch

from dassl.engine import build_trainer
from dassl.engine.resuming import has_progress
from dassl.utils import set_random_seed

ALWAYS = ("TRAIN.CHECKPOINT_EVERY", "1 step")


class Killed(BaseException):
    """What nothing in the code under test may expect."""


def weights(trainer):
    return torch.cat(
        [p.detach().flatten() for m in trainer._models.values() for p in m.parameters()]
    )


def forget_everything():
    """A new process has its generators in any state."""
    set_random_seed(random.randrange(1000))


def cut_off(make_cfg, options, break_off):
    """Train under `break_off(trainer, monkeypatch)`; True if the run came to its end."""
    trainer = build_trainer(make_cfg(*options))
    with pytest.MonkeyPatch.context() as patch:
        break_off(trainer, patch)
        if has_progress(Path(trainer.output_dir), trainer.get_model_names()):
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


POINTS = {  # at the end of every step; while a file is written; between writing and renaming
    "step": ("trainer", "forward_backward", True),
    "save": (torch, "save", True),
    "rename": (os, "replace", False),
    "renamed": (os, "replace", True),
}
OPTIONS = {
    "sgd": ("OPTIM.NAME", "sgd"),
    "adamw": ("OPTIM.NAME", "adamw", "TRAIN.CHECKPOINT_FREQ", 1),
    "best_val": ("TEST.FINAL_MODEL", "best_val"),
    "class_sampler": (
        *("DATALOADER.TRAIN_X.SAMPLER", "RandomClassSampler", "DATALOADER.TRAIN_X.N_INS", 2),
    ),
    "two_loaders": (
        *("TRAINER.NAME", "ToyTrainerXU", "DATASET.ALL_AS_UNLABELED", True),
        *("DATALOADER.TRAIN_U.SAME_AS_X", False, "DATALOADER.TRAIN_U.BATCH_SIZE", 7),
    ),
}  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("point", POINTS)
def test_cut_off_anywhere(make_cfg, tmp_path, options, point, capsys):
    """In every run, one more step or file is let through than in the one before."""
    options = (*OPTIONS[options], *ALWAYS, "OPTIM.MAX_EPOCH", 2)
    whole = build_trainer(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    whole.train()
    expected = capsys.readouterr().out
    owner, name, after = POINTS[point]
    for call in (1, 2, 3, 2, 5, 3, 1, 2, 9, 99):
        trainer = cut_off(make_cfg, options, kill_in(owner, name, call, after))
    assert torch.equal(weights(trainer), weights(whole))
    assert trainer.best_result == whole.best_result
    out = capsys.readouterr().out
    assert out[out.rindex("=> result") :][:80] == expected[expected.rindex("=> result") :][:80]
    assert not list(Path(trainer.output_dir).rglob(".*.part"))
    assert not (Path(trainer.output_dir) / "in_progress").exists()
