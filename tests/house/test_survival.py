"""Runs that are killed or stopped: the same command ends with the same weights and numbers."""

import json
import os
import random
import signal
import time

import pytest
import torch

from tests.helpers.toy_run import command

pytestmark = pytest.mark.slow
LONG = (
    *("OPTIM.MAX_EPOCH", "12", "DATASET.NUM_SHOTS", "4", "DATALOADER.TRAIN_X.BATCH_SIZE", "2"),
    *("TRAIN.CHECKPOINT_EVERY", "1 step"),
)

VARY = {  # what two runs with the same outcome may differ in
    *("checkpoint", "checkpoint_hash"),  # of a test: the file has times in it, too
    *("seconds", "train_seconds", "images_per_second"),
    *("peak_memory_bytes", "resumed_from_epoch", "features_were_stored"),
}


def finish(arguments: list[str]) -> None:
    from tests.helpers import forked

    process = forked.start(arguments)
    process.join()
    assert process.exitcode == 0


def run_in_bits(arguments: list[str], run, times: int, end: signal.Signals, code: int) -> None:
    """End it up to `times` times, before it trains or some time after it began to."""
    from tests.helpers import forked

    draw, ends = random.Random(0), []
    for number in range(times):
        before = newest(run)
        process = forked.start(arguments)
        while number % 3 and newest(run) == before and process.is_alive():
            time.sleep(0.001)
        process.join(draw.uniform(0, 0.5))
        if process.is_alive():
            os.kill(process.pid, end)
        process.join()
        ends.append(process.exitcode)
        if process.exitcode == 0:
            break
    else:
        finish(arguments)
    assert set(ends) <= {code, 0} and ends.count(code) >= 3


def newest(run) -> list[str]:
    return sorted(path.name for path in run.glob("in_progress/epoch-*"))


def outcome(run) -> tuple[dict, dict]:
    """All tensors that the run saved last, and its numbers."""
    tensors = {}
    for file in sorted(run.glob("*/model*.pth.tar*")):
        state = torch.load(file, weights_only=True)["state_dict"]
        tensors |= {f"{file.relative_to(run)} {name}": value for name, value in state.items()}
    record = json.loads((run / "results.json").read_text())
    return tensors, {key: value for key, value in record.items() if key not in VARY}


def assert_same_outcome(run, whole):
    (tensors, record), (expected, numbers) = outcome(run), outcome(whole)
    assert tensors.keys() == expected.keys() and tensors
    assert all(torch.equal(value, expected[name]) for name, value in tensors.items())
    assert record == numbers
    assert not [path for path in run.iterdir() if path.name in (".lock", "in_progress")]
    assert not list(run.rglob(".*.part"))


@pytest.mark.parametrize(
    ("trainer", "opts"),
    [
        ("PromptSRC", ("TEST.FINAL_MODEL", "best_val", "TRAINER.PROMPTSRC.GPA_MEAN", "2")),
        ("MMRL", ("DATALOADER.NUM_WORKERS", "2", "TRAINER.MMRL.PREC", "amp")),
    ],
)
def test_killed_many_times(trainer, opts, toy, tmp_path):
    """SIGKILL whenever: while it is built, trains, saves, validates or tests."""
    whole, bits = (command(toy, trainer, tmp_path / n, opts=(*LONG, *opts)) for n in ("w", "b"))
    finish(whole)
    run_in_bits(bits, tmp_path / "b", 10, signal.SIGKILL, -signal.SIGKILL)
    assert_same_outcome(tmp_path / "b", tmp_path / "w")


def test_stopped_many_times(toy, tmp_path):
    """SIGTERM whenever: the run leaves with 75, and what it had."""
    opts = ("TEST.FINAL_MODEL", "best_val", "DATALOADER.NUM_WORKERS", "1")
    whole, bits = (command(toy, "MMRL", tmp_path / n, opts=(*LONG, *opts)) for n in ("w", "b"))
    finish(whole)
    run_in_bits(bits, tmp_path / "b", 6, signal.SIGTERM, 75)
    assert_same_outcome(tmp_path / "b", tmp_path / "w")
