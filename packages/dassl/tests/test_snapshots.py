"""The files of a run in progress: how many, damaged ones, those of another folder."""

import re
from pathlib import Path

import pytest
import torch

from dassl.engine import build_trainer
from dassl.engine.checkpointing import find_snapshots
from dassl.utils import load_checkpoint

from .toy_runs import ALWAYS, OPTIONS, cut_off, kill_in, weights, whole_and_broken


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
    trainer._checkpointer.after_train = lambda trainer: None
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
    assert re.search(rf"{newest} is (damaged|a text).*the one before", out)
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
