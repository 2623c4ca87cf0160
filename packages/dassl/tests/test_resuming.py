"""Runs that are cut off anywhere end as if they had not been."""

import os
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import set_random_seed

from .toy_runs import ALWAYS, OPTIONS, Killed, cut_off, kill_in, weights, whole_and_broken

POINTS = {  # at the end of every step; while a file is written; between writing and renaming
    "step": ("trainer", "forward_backward", True),
    "save": (torch, "save", True),
    "rename": (os, "replace", False),
    "renamed": (os, "replace", True),
}


@pytest.mark.parametrize(
    ("point", "options"),
    [
        *(("step", options) for options in OPTIONS),
        *((point, "best_val") for point in ("save", "rename", "renamed")),
    ],
)
def test_cut_off_anywhere(make_cfg, tmp_path, options, point, capsys):
    """Seven runs, each of which ends at another step or file."""
    options = (*OPTIONS[options], *ALWAYS, "OPTIM.MAX_EPOCH", 2)
    whole = build_trainer(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    whole.train()
    expected = capsys.readouterr().out
    owner, name, after = POINTS[point]
    for call in (1, 2, 5, 3, 1, 9, 99):
        trainer = cut_off(make_cfg, options, kill_in(owner, name, call, after))
    assert torch.equal(weights(trainer), weights(whole))
    assert trainer.best_result == whole.best_result
    out = capsys.readouterr().out
    assert out[out.rindex("=> result") :][:80] == expected[expected.rindex("=> result") :][:80]
    names = [
        sorted(path.name for path in Path(run.output_dir).glob("learner/*"))
        for run in (trainer, whole)
    ]
    assert names[0] == names[1]
    assert not list(Path(trainer.output_dir).rglob(".*.part"))
    assert not (Path(trainer.output_dir) / "in_progress").exists()


def end_after_six_steps(trainer):
    """The second epoch has two of its four batches."""
    trainer.max_steps = 6


def test_a_run_that_ends_within_its_last_epoch(make_cfg, tmp_path, capsys):
    """It has taken the first steps of the whole run, and moved its rate at the end."""
    written, rates = [], []
    trainer = build_trainer(make_cfg("OPTIM.MAX_EPOCH", 2))
    end_after_six_steps(trainer)
    trainer.write_scalar = lambda tag, value, step: written.append((tag, step, value))
    trainer.update_lr = lambda: rates.append(trainer.batch_idx)
    trainer.train()
    assert re.search(r"epoch \[2/2\] batch \[2/2\] .* eta 0:00:00", capsys.readouterr().out)
    assert [(s, e) for tag, s, e in written if tag == "train/epoch"] == [
        *((1, 0.5), (3, 1.0)),  # every second step
        (5, 2.0),
    ]
    assert rates == [3, 1]
    whole = make_cfg("OPTIM.MAX_EPOCH", 2, "OUTPUT_DIR", str(tmp_path / "whole"))
    other = build_trainer(whole)
    other.update_lr = lambda: None
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_in("trainer", "forward_backward", 7)(other, patch)
        other.train()
    assert torch.equal(weights(trainer), weights(other))


@pytest.mark.parametrize(("name", "call"), [("forward_backward", 6), ("after_epoch", 2)])
def test_a_last_epoch_that_is_cut_goes_on_where_it_was(make_cfg, tmp_path, name, call):
    """After the first of its two batches, and after the second."""
    options = (*ALWAYS, "OPTIM.MAX_EPOCH", 2)
    whole = build_trainer(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    end_after_six_steps(whole)
    whole.train()

    def break_off(trainer, patch):
        end_after_six_steps(trainer)
        kill_in("trainer", name, call)(trainer, patch)

    assert cut_off(make_cfg, options, break_off) is None
    for done in (call if name == "forward_backward" else 7) - 1, 6:  # then the finished run
        resumed = build_trainer(make_cfg(*options))
        end_after_six_steps(resumed)
        resumed.train()
        assert resumed._checkpointer.first_step == done
        assert torch.equal(weights(resumed), weights(whole))


def test_done_batches_are_not_loaded_again(make_cfg, tmp_path, monkeypatch):
    whole, resumed = whole_and_broken(make_cfg, tmp_path, ("OPTIM.MAX_EPOCH", 2))
    loaded, get = [], type(resumed.train_loader_x.dataset).__getitem__
    monkeypatch.setattr(
        type(resumed.train_loader_x.dataset),
        "__getitem__",
        lambda self, i: loaded.append(self.is_train) or get(self, i),
    )
    resumed.train()
    assert sum(loaded) == 2 * 4  # the last two batches of the second epoch
    assert torch.equal(weights(resumed), weights(whole))


def test_printed_means_and_scalars_go_on(make_cfg, tmp_path, capsys):
    _, resumed = whole_and_broken(make_cfg, tmp_path, ("OPTIM.MAX_EPOCH", 2))
    lines = [
        re.sub(r" (time|data) \S+ \S+|eta .*", "", line)
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("epoch [2/2] batch [4/4]")
    ]
    written = []
    resumed.write_scalar = lambda *scalar: written.append(scalar)
    resumed.train()
    out = capsys.readouterr().out
    last = next(line for line in out.splitlines() if line.startswith("epoch [2/2] batch [4/4]"))
    assert re.sub(r" (time|data) \S+ \S+|eta .*", "", last) == lines[0]
    assert ("train/loss", 7) in [(tag, step) for tag, _, step in written]
    assert (
        resumed._checkpointer.first_step
        == 6
        == find_first_step(tmp_path / "output" / "tensorboard")
    )


def find_first_step(folder):
    """The step from which on the newest file replaces the older ones."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    newest = max(folder.iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name))
    starts = [
        event for event in EventFileLoader(str(newest)).Load() if event.HasField("session_log")
    ]
    return starts[0].step


def test_a_loader_of_ones_own(make_cfg, tmp_path):
    """Its order comes from the global generator, and so does what its transform draws."""

    def own_loader(trainer):
        trainer.train_loader_x = DataLoader(
            trainer.train_loader_x.dataset, batch_size=4, shuffle=True, drop_last=True
        )

    whole, resumed = whole_and_broken(make_cfg, tmp_path, ("OPTIM.MAX_EPOCH", 2), change=own_loader)
    resumed.train()
    assert torch.equal(weights(resumed), weights(whole))


def test_an_unseeded_run_goes_on_in_its_own_order(make_cfg):
    options = (*ALWAYS, "OPTIM.MAX_EPOCH", 1)
    first = build_trainer(make_cfg(*options))
    seed = first.train_loader_x.sampler.seed
    first.train()
    cfg = make_cfg(*options)
    set_random_seed(5)
    second = build_trainer(cfg)
    assert second.train_loader_x.sampler.seed != seed
    second.train()
    assert second.train_loader_x.sampler.seed == seed


def test_what_a_trainer_keeps_beside_comes_back(make_cfg, tmp_path):
    class Counting(TRAINER_REGISTRY.get("ToyTrainer")):
        seen = 0

        def forward_backward(self, batch):
            self.seen += len(batch["label"])
            return super().forward_backward(batch)

        def extra_state(self):
            return {"seen": self.seen}

        def load_extra_state(self, state):
            self.seen = state.get("seen", 0)

    TRAINER_REGISTRY._objects["Counting"] = Counting
    options = ("TRAINER.NAME", "Counting", "OPTIM.MAX_EPOCH", 2)
    whole, resumed = whole_and_broken(make_cfg, tmp_path, options)
    resumed.train()
    assert resumed.seen == whole.seen == 2 * 4 * 4
