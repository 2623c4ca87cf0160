"""One run in its folder: the lock, exit codes, and what must not change its numbers."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import clip
import pytest
import torch

import frozen_clip
import train
from dassl.utils.determinism import deterministic
from run.lock import output_lock
from tests.helpers.toy_run import REPO, command

LEARNER = "MultiModalRepresentationLearner"


def learned(run) -> dict[str, torch.Tensor]:
    file = run / LEARNER / "model.pth.tar-2"
    return torch.load(file, weights_only=True)["state_dict"]


def assert_same_run(run, other):
    """The same weights, bit for bit, and the same numbers."""
    ours, theirs = learned(run), learned(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    found = [json.loads((folder / "results.json").read_text()) for folder in (run, other)]
    for key in ("accuracy", "macro_f1", "total", "correct", "seed"):
        assert found[0][key] == found[1][key]


# The lock


def test_a_second_run_is_told_who_is_there(toy, tmp_path, capsys):
    with output_lock(tmp_path):
        for flags in ((), ("--eval-only",), ("--no-train",)):
            assert train.main(command(toy, "ZeroshotCLIP", tmp_path, *flags)) == 2
            message = capsys.readouterr().err
            assert f"in use by process {os.getpid()} on " in message and message.count("\n") == 1
        assert os.listdir(tmp_path) == [".lock"]  # no log of a run that was none
    assert os.listdir(tmp_path) == []
    assert train.main(command(toy, "ZeroshotCLIP", tmp_path)) == 0
    assert not (tmp_path / ".lock").exists()


def test_a_killed_process_holds_nothing(tmp_path):
    """Nor do its children that live on, such as the workers of a loader."""
    program = (
        "import os, sys, time; from pathlib import Path; from run.lock import output_lock\n"
        f"with output_lock(Path({str(tmp_path)!r})):\n"
        "    child = os.fork()\n"
        "    if not child: print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    child = int(holder.stdout.readline())
    with pytest.raises(ValueError, match=f"process {holder.pid} on"), output_lock(tmp_path):
        pass
    holder.kill()
    holder.wait()
    os.kill(child, 0)  # it is still there
    with output_lock(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()
    os.kill(child, signal.SIGKILL)
    holder.stdout.close()


def test_a_disk_without_locks_is_said(tmp_path, monkeypatch, capsys):
    import errno

    def flock(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("run.lock.fcntl.flock", flock)
    with output_lock(tmp_path):
        assert "without locks" in capsys.readouterr().out
        assert os.listdir(tmp_path) == []
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch):
    import errno

    def write(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("run.lock.os.write", write)
        with pytest.raises(OSError, match=r"No space.*choose another"), output_lock(tmp_path):
            pass
    assert os.listdir(tmp_path) == []
    with output_lock(tmp_path):  # nor a handle that holds it
        pass


@pytest.mark.parametrize("flags", [(), ("--eval-only",)])
def test_a_folder_that_cannot_be_written_to(flags, toy, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train.main(command(toy, "ZeroshotCLIP", tmp_path / "file" / "run", *flags)) == 2
    message = capsys.readouterr().err
    assert f"{tmp_path / 'file'} is a file; choose another --output-dir" in message


# Exit codes


def test_a_loss_that_is_no_number_exits_with_3(toy, tmp_path, capsys):
    rates = ("OPTIM.LR", "1e6", "OPTIM.WEIGHT_DECAY", "1e6")
    opts = (*rates, "OPTIM.WARMUP_EPOCH", "-1", "OPTIM.MAX_EPOCH", "50")
    assert train.main(command(toy, "MMRL", tmp_path, opts=opts)) == 3
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert "became infinite or NaN in epoch" in message and "ce_class" in message
    assert message.strip() in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / LEARNER).exists()


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 75), ("SIGUSR2", 75), ("SIGINT", 130)])
def test_a_signal_before_training(number, code, toy, tmp_path, monkeypatch, capsys):
    number = getattr(signal, number)
    monkeypatch.setattr("train.check_data", lambda cfg: os.kill(os.getpid(), number))
    assert train.main(command(toy, "MMRL", tmp_path)) == code
    assert capsys.readouterr().err.count("the same command continues\n") == 1


def test_a_signal_in_training_is_in_the_log_and_is_continued(toy, tmp_path, monkeypatch):
    whole, run = tmp_path / "whole", tmp_path / "run"
    opts = ("OPTIM.LR", "0.01")
    assert train.main(command(toy, "MMRL", whole, opts=opts)) == 0
    with monkeypatch.context() as patch:
        from training.trainer import CLIPTrainer

        forward = CLIPTrainer.forward_backward

        def signalling(self, batch):
            os.kill(os.getpid(), signal.SIGTERM)
            return forward(self, batch)

        patch.setattr(CLIPTrainer, "forward_backward", signalling)
        assert train.main(command(toy, "MMRL", run, opts=opts)) == 75
    assert "stopped by SIGTERM, saved up to epoch 1, batch 1" in (run / "log.txt").read_text()
    other = (*opts, "OPTIM.NAME", "adam")
    assert train.main(command(toy, "MMRL", run, opts=other)) == 2  # not under another config
    assert train.main(command(toy, "MMRL", run, opts=opts)) == 0
    assert_same_run(run, whole)


# What must not change the numbers


@pytest.fixture(scope="module")
def plain(toy, tmp_path_factory):
    """A run that all others are compared with."""
    run = tmp_path_factory.mktemp("plain")
    assert train.main(command(toy, "MMRL", run)) == 0
    return run


@pytest.mark.parametrize(
    "opts",
    [
        ("DATALOADER.NUM_WORKERS", "2"),
        ("TEST.FINAL_MODEL", "last_step", "TRAIN.CHECKPOINT_EVERY", "1 step"),
        ("TRAIN.PRINT_FREQ", "1", "VERBOSE", "False", "TEST.PER_CLASS_RESULT", "True"),
        ("DETERMINISTIC", "True"),
    ],
)
def test_incidental_settings(opts, plain, toy, tmp_path):
    assert train.main(command(toy, "MMRL", tmp_path, opts=opts)) == 0
    assert_same_run(tmp_path, plain)


def test_validation_in_between(plain, toy, tmp_path):
    assert train.main(command(toy, "MMRL", tmp_path, opts=("TEST.FINAL_MODEL", "best_val"))) == 0
    ours, theirs = learned(tmp_path), learned(plain)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_caches(plain, toy, tmp_path, monkeypatch):
    """The kept draw of before, none, and none that can be kept."""
    from datasets import few_shot

    monkeypatch.setattr(few_shot, "load_draw", lambda *args: None)
    monkeypatch.setattr(few_shot, "store_draw", lambda *args: None)
    assert train.main(command(toy, "MMRL", tmp_path)) == 0
    assert_same_run(tmp_path, plain)


def test_how_the_backbone_is_stored(toy, tmp_path, monkeypatch):
    """By the name 'small', as a state dict, that inside a checkpoint, and as OpenAI's archives."""
    model = frozen_clip.load("small").clip
    torch.save(model.state_dict(), tmp_path / "state.pt")
    torch.save(frozen_clip.described(model), tmp_path / "checkpoint.pt")
    example = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, example).save(str(tmp_path / "archive.pt"))
    digest = hashlib.sha256((tmp_path / "archive.pt").read_bytes()).hexdigest()
    monkeypatch.setitem(clip.clip._MODELS, "traced", f"https://example.org/{digest}/archive.pt")
    runs = []
    files = [tmp_path / f"{name}.pt" for name in ("state", "checkpoint", "archive")]
    for name in ("small", *files):
        torch.manual_seed(len(runs))  # whatever came before
        runs.append(tmp_path / f"run{len(runs)}")
        opts = ("MODEL.BACKBONE.NAME", str(name))
        if Path(name).stem == "state":
            opts += ("MODEL.BACKBONE.ACTIVATION", "quick_gelu", "MODEL.BACKBONE.HEADS", "(2, 2)")
        assert train.main(command(toy, "MMRL", runs[-1], clip="small", opts=opts)) == 0
    for run in runs[1:]:
        assert_same_run(run, runs[0])


def test_deterministic_is_asked_for_and_put_back(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "slower on a GPU" in capsys.readouterr().out
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
