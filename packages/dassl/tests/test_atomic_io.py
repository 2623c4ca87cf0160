"""Full disks and losses that are no numbers: what was saved stays, and the message says enough."""

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dassl.engine import build_trainer
from dassl.engine.checkpointing import find_snapshots, serialize, write_snapshot
from dassl.engine.hooks import FiniteCheck
from dassl.utils import atomic_io, load_checkpoint
from dassl.utils.atomic_io import atomic_write, check_free_space

ALWAYS = ("TRAIN.CHECKPOINT_EVERY", "1 step")


@contextmanager
def files_up_to(size):
    """The system refuses to let files grow beyond `size` bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_snapshot_that_finds_no_room_leaves_the_one_before(tmp_path):
    write_snapshot(tmp_path, (0, 1), serialize({"w": torch.ones(10)}))
    with (
        files_up_to(20_000),
        pytest.raises(OSError, match=r"step-2.*could not be written.*make room"),
    ):
        write_snapshot(tmp_path, (0, 2), serialize({"w": torch.ones(100_000)}))
    ((place, path),) = find_snapshots(tmp_path)
    assert place == (0, 1) and float(load_checkpoint(path)["w"].sum()) == 10
    assert os.listdir(path.parent) == [path.name]  # nothing half written


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_fails_late_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    path.write_text("old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left on device"):
        atomic_write(path, lambda part: part.write_text("new"))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_too_little_room_is_found_before_training(make_cfg):
    trainer = build_trainer(make_cfg())
    trainer.forward_backward = None
    with files_up_to(5_000), pytest.raises(OSError, match=r"takes no files of 0\.1 MB.*too large"):
        trainer.train()
    assert os.listdir(trainer.output_dir) == []


def test_the_room_of_all_checkpoints_is_asked_for(tmp_path, monkeypatch):
    usage = atomic_io.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(atomic_io.shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))
    check_free_space(tmp_path / "new", 1_000_000, 4_000_000)
    assert os.listdir(tmp_path / "new") == []
    message = r"too little room in .*new: 5\.0 MB are free, and .* take 6\.0 MB"
    with pytest.raises(OSError, match=message):
        check_free_space(tmp_path / "new", 1_000_000, 6_000_000)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/run takes no files.*Not a directory"):
        check_free_space(tmp_path / "file" / "run", 1, 1)


# Losses


def poisoned(trainer, call, **values):
    """From the `call`-th step on it also returns `values`."""
    forward, calls = trainer.forward_backward, []

    def step(batch):
        calls.append(1)
        return {**forward(batch), **(values if len(calls) >= call else {})}

    trainer.forward_backward = step
    return trainer


def test_the_first_bad_term_is_named_and_nothing_saved_since(make_cfg):
    cfg = make_cfg(*ALWAYS, "TRAIN.PRINT_FREQ", 3)
    trainer = poisoned(build_trainer(cfg), 6, kl=float("nan"), loss=float("nan"))
    with pytest.raises(
        FloatingPointError, match=r"^'kl' became .*epoch 2, batch 2 of 4.*OPTIM\.LR"
    ):
        trainer.train()
    assert find_snapshots(Path(cfg.OUTPUT_DIR))[0][0] == (1, 1)


def test_a_metric_that_is_no_number_does_not_matter(make_cfg):
    poisoned(build_trainer(make_cfg("OPTIM.MAX_EPOCH", 1)), 2, share=float("nan")).train()


def test_on_a_gpu_it_is_found_before_anything_is_saved(make_cfg):
    """Nothing is read between lines there; that is imitated."""
    cfg = make_cfg("TRAIN.CHECKPOINT_EVERY", "4 steps", "TRAIN.PRINT_FREQ", 100)
    trainer = poisoned(build_trainer(cfg), 6, loss_kl=torch.tensor(float("inf")))
    trainer.device = type("Device", (), {"type": "cuda"})()
    trainer._to_device = lambda value: value
    trainer.parse_batch_train = lambda batch: (batch["img"], batch["label"])
    with pytest.raises(FloatingPointError, match=r"'loss_kl' .*epoch 2, batch 2 of 4"):
        trainer.train()
    assert find_snapshots(Path(cfg.OUTPUT_DIR))[0][0] == (0, 4)


def test_weights_that_are_no_numbers_are_not_saved(make_cfg):
    """The last step of all may spoil them, and no loss shows it."""
    cfg = make_cfg("OPTIM.MAX_EPOCH", 1)
    trainer = build_trainer(cfg)

    def spoil():
        with torch.no_grad():
            trainer.model.linear.bias[0] = float("inf")

    trainer.update_lr = spoil
    with pytest.raises(FloatingPointError, match=r"learner\.linear\.bias.* not saved"):
        trainer.train()
    assert not list(Path(cfg.OUTPUT_DIR).rglob("*.pth.tar*"))


def test_losses_are_read_before_they_take_memory():
    check, trainer = FiniteCheck(), SimpleNamespace(epoch=0, num_batches=10**6)
    trainer.device, trainer.cfg = torch.device("cuda"), SimpleNamespace()
    trainer.cfg.TRAIN = SimpleNamespace(PRINT_FREQ=10**5)
    for trainer.batch_idx in range(3 * check.MOST):
        check.after_batch(trainer, {"loss": 1.0})
        assert len(check._losses) < check.MOST
    check.add(trainer, {"loss": torch.tensor(float("nan")), "loss_x": 1.0})
    with pytest.raises(FloatingPointError, match="'loss' became infinite or NaN in epoch 1"):
        check.check_losses(trainer)
