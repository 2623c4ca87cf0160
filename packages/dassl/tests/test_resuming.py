"""Runs that are cut off anywhere end as if they had not been."""

import os
import random
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.engine.resuming import has_progress
from dassl.engine.snapshots import find_snapshots
from dassl.utils import load_checkpoint, set_random_seed

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
    "best_val": ("TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 1),
    "class_sampler": (
        *("DATALOADER.TRAIN_X.SAMPLER", "RandomClassSampler", "DATALOADER.TRAIN_X.N_INS", 2),
    ),
    "two_loaders": (
        *("TRAINER.NAME", "ToyTrainerXU", "DATASET.ALL_AS_UNLABELED", True),
        *("DATALOADER.TRAIN_U.SAME_AS_X", False, "DATALOADER.TRAIN_U.BATCH_SIZE", 7),
    ),
}  # fmt: skip


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
    assert resumed._first_step == 6 == find_first_step(tmp_path / "output" / "tensorboard")


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


def test_the_last_two_are_kept_while_it_runs_and_none_after(make_cfg):
    trainer = build_trainer(make_cfg(*ALWAYS, "OPTIM.MAX_EPOCH", 1))
    there, forward = [], trainer.forward_backward

    def looking(batch):
        there.append([place for place, _ in find_snapshots(Path(trainer.output_dir))])
        return forward(batch)

    trainer.forward_backward = looking
    trainer.train()
    assert there == [[], [(0, 1)], [(0, 2), (0, 1)], [(0, 3), (0, 2)]]
    assert find_snapshots(Path(trainer.output_dir)) == []


def test_a_quick_run_writes_nothing_extra(make_cfg):
    trainer = build_trainer(make_cfg("OPTIM.MAX_EPOCH", 1))
    trainer._remove_snapshots = lambda: None
    trainer.train()
    names = {path.name for path in Path(trainer.output_dir).iterdir()}
    assert names == {"learner", "tensorboard"}


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "garbage":
        path.write_bytes(b"garbage" * 100)
    elif how == "empty":
        path.write_bytes(b"")
    else:  # one bit of a tensor, which torch.load does not see
        weight = load_checkpoint(path)["models"]["learner"]["state_dict"]["linear.weight"]
        place = bytes(content).index(weight.numpy().tobytes())
        content[place] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "garbage", "empty", "bit"])
def test_a_damaged_snapshot_is_named_and_passed_over(make_cfg, tmp_path, capsys, how):
    whole, resumed = whole_and_broken(make_cfg, tmp_path, ("OPTIM.MAX_EPOCH", 2))
    (_, newest), (_, before) = find_snapshots(Path(resumed.output_dir))
    spoil(newest, how)
    capsys.readouterr()
    resumed.train()
    out = capsys.readouterr().out
    assert re.search(rf"{newest} (was not loaded: it )?is damaged.*the one before", out)
    assert f"1 batches of the next from {before}" in out
    assert torch.equal(weights(resumed), weights(whole))


def test_a_damaged_checkpoint_is_passed_over_too(make_cfg, tmp_path, capsys):
    options = ("TRAIN.CHECKPOINT_FREQ", 1)
    whole = build_trainer(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    whole.train()
    build_trainer(make_cfg(*options)).train()
    newest = tmp_path / "output" / "learner" / "model.pth.tar-3"
    newest.write_bytes(newest.read_bytes()[:1000])
    resumed = build_trainer(make_cfg(*options))
    resumed.train()
    assert "RESUMING after epoch 2 from" in capsys.readouterr().out
    assert torch.equal(weights(resumed), weights(whole))


def test_a_run_is_continued_where_it_was_taken_up(make_cfg, tmp_path):
    """RESUME is where it begins; what OUTPUT_DIR has since then counts more."""
    whole, resumed = whole_and_broken(make_cfg, tmp_path, ("OPTIM.MAX_EPOCH", 2))
    there = ("RESUME", resumed.output_dir, "OUTPUT_DIR", str(tmp_path / "there"))
    options = (*there, *ALWAYS, "OPTIM.MAX_EPOCH", 2)
    assert cut_off(make_cfg, options, kill_in("trainer", "forward_backward", 2)) is None
    assert [place for place, _ in find_snapshots(tmp_path / "there")] == [(1, 3)]
    last = build_trainer(make_cfg(*options))
    last.train()
    assert torch.equal(weights(last), weights(whole))


def test_the_best_model_is_found_anew_in_another_folder(make_cfg, tmp_path):
    """What was best before lies in the folder that is resumed from, and may be gone."""
    options = (*OPTIONS["best_val"], "OPTIM.MAX_EPOCH", 2)
    first = build_trainer(make_cfg(*options))
    first._save_if_best = lambda: setattr(first, "best_result", 200.0)
    with pytest.raises(FileNotFoundError, match="best"):
        first.train()
    there = ("RESUME", first.output_dir, "OUTPUT_DIR", str(tmp_path / "there"))
    resumed = build_trainer(make_cfg(*options, *there, "OPTIM.MAX_EPOCH", 3))
    resumed.train()
    assert resumed.start_epoch == 2 and 0 <= resumed.best_result <= 100
    assert (tmp_path / "there" / "learner" / "model-best.pth.tar").is_file()


def test_where_nothing_is_sound_the_run_is_taken_up_again(make_cfg, tmp_path):
    whole, broken = whole_and_broken(make_cfg, tmp_path, ("OPTIM.MAX_EPOCH", 2))
    options = ("RESUME", broken.output_dir, "OUTPUT_DIR", str(tmp_path / "there"))
    (tmp_path / "there/learner").mkdir(parents=True)
    (tmp_path / "there/learner/model.pth.tar-1").write_bytes(b"garbage")
    resumed = build_trainer(make_cfg(*options, *ALWAYS, "OPTIM.MAX_EPOCH", 2))
    resumed.train()
    assert resumed.start_epoch == 1
    assert torch.equal(weights(resumed), weights(whole))
