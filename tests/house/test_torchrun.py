"""`torchrun --nproc-per-node N train.py ...`: one run on several devices, equal to that on one."""

import csv
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.distributed import TCPStore

import train
from run.lock import output_lock
from tests.helpers.toy_run import REPO, build, command

FORK = multiprocessing.get_context("fork")
VARY = {  # what runs with the same outcome may differ in
    *("seconds", "train_seconds", "images_per_second", "processes"),
    *("peak_memory_bytes", "resumed_from_epoch", "features_were_stored"),
}
EVEN = ("DATALOADER.TRAIN_X.BATCH_SIZE", "2")
SAVE = ("TEST.SAVE_PREDICTIONS", "True", "TRAIN.PRINT_FREQ", "1", "OPTIM.LR", "0.01", *EVEN)


def forked(
    arguments: list[str], folder, count: int = 2, end: signal.Signals | None = None
) -> tuple[list[int], str]:
    """Exit codes of `count` processes as torchrun starts them, and what they said on stderr.

    end: the signal that all get when there is a snapshot
    """
    port = FORK.Value("i", 0)
    said = folder.parent / f"{folder.name}.stderr"
    there = [
        FORK.Process(target=_one, args=(arguments, count, r, port, said)) for r in range(count)
    ]
    for process in there:
        process.start()
    # as torchrun has it; its thread must not be there when processes are forked
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port.value = store.port
    if end is not None:
        wait_for_snapshot(folder, there[0].is_alive)
        for process in there:
            os.kill(process.pid, end)
    for process in there:
        process.join(120)
    return [process.exitcode for process in there], said.read_text()


def wait_for_snapshot(run, goes_on) -> None:
    while not list(run.glob("in_progress/epoch-*")) and goes_on():
        time.sleep(0.01)


def _one(arguments, count, number, port, said):
    while not port.value:
        time.sleep(0.01)
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(count))
    os.environ.update(LOCAL_WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1")
    os.environ["MASTER_PORT"] = str(port.value)
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    raise SystemExit(train.main(arguments))


def learned(run) -> dict[str, torch.Tensor]:
    """What all checkpoints of a run hold."""
    states = {file: torch.load(file, weights_only=True) for file in run.glob("*/model*.tar*")}
    return {
        f"{file.relative_to(run)} {name}": value
        for file, state in states.items()
        for name, value in state["state_dict"].items()
    }


def record(run) -> dict:
    found = json.loads((run / "results.json").read_text())
    return {key: value for key, value in found.items() if key not in VARY}


def predictions(run) -> tuple[list[list[str]], list[float]]:
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [row[:3] for row in rows], [float(row[3]) for row in rows]


def scalars(run) -> dict[tuple[str, int], float]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {(tag, event.step): event.value for tag in tags for event in events.Scalars(tag)}


def files(run) -> list[str]:
    there = (str(path.relative_to(run)) for path in run.rglob("*"))
    return sorted(name for name in there if "events" not in name)


def assert_same_run(run, one, rtol: float = 1e-4, atol: float = 1e-5, other: str = "") -> None:
    """The settings are the same too, but for the key `other`."""
    ours, theirs = learned(run), learned(one)
    assert ours.keys() == theirs.keys() and ours
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=rtol, atol=atol)
    records = record(run), record(one)
    if other:
        for found in records:
            found["settings"].pop(other)
            found.pop("fingerprint")
    assert records[0] == records[1]
    assert predictions(run)[0] == predictions(one)[0]
    assert predictions(run)[1] == pytest.approx(predictions(one)[1], rel=100 * rtol)
    losses, expected = scalars(run), scalars(one)
    assert losses.keys() == expected.keys()
    assert list(losses.values()) == pytest.approx(list(expected.values()), rel=100 * rtol, abs=1e-4)
    assert files(run) == files(one)
    assert json.loads((run / "results.json").read_text())["processes"] > 1


# Two forked processes: what torchrun starts, without torchrun


@pytest.mark.parametrize(
    ("trainer", "count", "opts"),
    [
        ("MMRL", 2, ()),
        ("MMRLPlus", 2, ("DATALOADER.TRAIN_X.BATCH_SIZE", "4", "TEST.FINAL_MODEL", "best_val")),
        ("CoOp", 3, ("DATALOADER.TRAIN_X.BATCH_SIZE", "3", "DATALOADER.TEST.BATCH_SIZE", "4")),
        ("PromptSRC", 2, ("TEST.FINAL_MODEL", "best_val", "TRAINER.PROMPTSRC.GPA_MEAN", "2")),
        ("ProGrad", 2, ("TRAINER.PROGRAD.LAMBDA", "3")),
        ("TipAdapterF", 2, ("TEST.FINAL_MODEL", "best_val")),
    ],
)
def test_as_in_one_process(trainer, count, opts, toy, tmp_path):
    one, several = tmp_path / "one", tmp_path / "several"
    assert train.main(command(toy, trainer, one, opts=(*SAVE, *opts))) == 0
    arguments = command(toy, trainer, several, opts=(*SAVE, *opts))
    assert forked(arguments, several, count) == ([0] * count, "")
    assert_same_run(several, one)
    assert json.loads((several / "results.json").read_text())["processes"] == count
    log = (several / "log.txt").read_text()
    assert log.count("=> result") == (one / "log.txt").read_text().count("=> result")
    again = command(toy, trainer, several, opts=(*SAVE, *opts))
    assert train.main(again) == 0  # the config is that of one process: the run is done
    flags = ("--eval-only", "--model-dir", str(several))
    tested = tmp_path / "tested"
    assert forked(command(toy, trainer, tested, *flags, opts=(*SAVE, *opts)), tested)[0] == [0, 0]
    for key in ("accuracy", "macro_f1", "per_class", "correct", "total"):
        assert record(tested)[key] == record(one)[key]


def test_nothing_to_train(toy, tmp_path):
    one, several = tmp_path / "one", tmp_path / "several"
    assert train.main(command(toy, "ZeroshotCLIP", one, opts=SAVE)) == 0
    assert forked(command(toy, "ZeroshotCLIP", several, opts=SAVE), several)[0] == [0, 0]
    assert record(several) == record(one)
    assert predictions(several) == predictions(one)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (("DATALOADER.TRAIN_X.BATCH_SIZE", "5"), "BATCH_SIZE to 4 or 6"),
        (("TRAINER.MMRL.PREC", "fp61"), "PREC is 'fp61'"),
        (("OPTIM.LR", "-1"), "OPTIM.LR is -1"),
        (("DATASET.NUM_SHOTS",), "must be pairs"),
    ],
)
def test_wrong_input_is_said_once(extra, says, toy, tmp_path):
    run = tmp_path / "run"
    codes, said = forked(command(toy, "MMRL", run, opts=extra), run)
    assert codes == [2, 2] and says in said and said.count("\n") == 1
    assert not run.exists()


def test_wrong_flags_are_said_once(toy, tmp_path):
    codes, said = forked(["--epochs", "3"], tmp_path / "run")
    assert codes == [2, 2] and said.startswith("error: ") and said.count("\n") == 1


def test_a_folder_in_use(toy, tmp_path):
    """The first process alone finds out."""
    run = tmp_path / "run"
    with output_lock(run):
        codes, said = forked(command(toy, "MMRL", run), run)
        assert codes == [2, 1] and "in use by process" in said and said.count("\n") == 1
        assert os.listdir(run) == [".lock"]


@pytest.mark.parametrize(("picture", "codes"), [("test_0", [2, 2]), ("test_1", [2, 1])])
def test_a_picture_that_one_process_cannot_read(picture, codes, toy, tmp_path):
    shutil.copytree(toy, tmp_path / "data")
    broken = tmp_path / "data/colored_shapes/images/red_square" / f"{picture}.png"
    broken.write_bytes(b"no picture")
    run = tmp_path / "run"
    found, said = forked(command(tmp_path / "data", "ZeroshotCLIP", run), run)
    assert found == codes and said.count("error: ") == 1 and f"red_square/{picture}.png" in said
    assert f"red_square/{picture}.png" in (run / "log.txt").read_text()


def test_a_loss_that_is_no_number(toy, tmp_path):
    rates = ("OPTIM.LR", "1e6", "OPTIM.WEIGHT_DECAY", "1e6", "OPTIM.WARMUP_EPOCH", "-1")
    run = tmp_path / "run"
    opts = (*rates, *EVEN, "OPTIM.MAX_EPOCH", "50")
    codes, said = forked(command(toy, "MMRL", run, opts=opts), run)
    assert codes == [3, 3] and said.count("\n") == 1 and "became infinite or NaN in epoch" in said
    assert not (run / "MultiModalRepresentationLearner").exists()


@pytest.mark.parametrize(("end", "code"), [(signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_signals(end, code, toy, tmp_path):
    opts = (*SAVE, "OPTIM.MAX_EPOCH", "20", "TRAIN.CHECKPOINT_EVERY", "1 step")
    one, run = tmp_path / "one", tmp_path / "run"
    assert train.main(command(toy, "CoOp", one, opts=opts)) == 0
    codes, said = forked(command(toy, "CoOp", run, opts=opts), run, 2, end)
    assert codes == [code] * 2 and said.count("saved up to epoch") == 1
    assert said.count("the same command continues") == 1
    assert train.main(command(toy, "CoOp", run, opts=opts)) == 0  # one process goes on
    ours, theirs = learned(run), learned(one)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4)
    assert record(run) == record(one)


def test_half_precision(toy, tmp_path):
    one, several = tmp_path / "one", tmp_path / "several"
    opts = (*SAVE, "TRAINER.MMRL.PREC", "amp")
    assert train.main(command(toy, "MMRL", one, opts=opts)) == 0
    assert forked(command(toy, "MMRL", several, opts=opts), several) == ([0, 0], "")
    start = vector(build(command(toy, "MMRL", several, opts=opts)).method.learner.state_dict())
    moved = vector(learned(one)) - start
    apart = vector(learned(several)) - vector(learned(one))
    assert apart.norm() < 0.1 * moved.norm()


def vector(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in state.values()])


@pytest.mark.slow
def test_a_compiled_step(toy, tmp_path, monkeypatch):
    """With the compiler's last stage left out, which takes most of its time."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, **_: compiler(step, backend="aot_eager"))
    one, several = tmp_path / "one", tmp_path / "several"
    opts = (*SAVE, "DATALOADER.TRAIN_X.BATCH_SIZE", "4")
    assert train.main(command(toy, "CoOp", one, opts=opts)) == 0
    arguments = command(toy, "CoOp", several, opts=(*opts, "TRAIN.COMPILE", "True"))
    assert forked(arguments, several)[0] == [0, 0]
    assert_same_run(several, one, rtol=1e-3, other="TRAIN.COMPILE")


# torchrun itself


def torchrun(arguments: list[str], count: int = 2) -> subprocess.Popen:
    program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *program, "train.py", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "opts"),
    [
        ("MMRL", ("DATALOADER.NUM_WORKERS", "1", "DETERMINISTIC", "True")),
        ("MMRLPlus", ("TRAIN.CHECKPOINT_EVERY", "1 step", "TRAIN.CHECKPOINT_FREQ", "1")),
        ("CoOp", ("DATALOADER.TRAIN_X.BATCH_SIZE", "4")),
    ],
)
def test_torchrun(trainer, opts, toy, tmp_path):
    one, several = tmp_path / "one", tmp_path / "several"
    opts = (*SAVE, *opts)
    assert train.main(command(toy, trainer, one, clip="small", opts=opts)) == 0
    started = torchrun(command(toy, trainer, several, clip="small", opts=opts))
    out, err = started.communicate(timeout=120)
    assert started.returncode == 0, err
    assert out.count("Finish training") == 1 and "Traceback" not in err
    assert_same_run(several, one)


@pytest.mark.slow
def test_torchrun_stopped_and_continued(toy, tmp_path):
    opts = (*SAVE, "OPTIM.MAX_EPOCH", "20", "TRAIN.CHECKPOINT_EVERY", "1 step")
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert forked(command(toy, "MMRL", whole, opts=opts), whole)[0] == [0, 0]
    started = torchrun(command(toy, "MMRL", run, opts=opts))
    wait_for_snapshot(run, lambda: started.poll() is None)
    started.terminate()
    _, err = started.communicate(timeout=60)
    assert started.returncode == 1  # torchrun's own
    assert err.count("the same command continues") == 1
    assert "saved up to epoch" in (run / "log.txt").read_text()
    assert not (run / "results.json").exists() and not (run / ".lock").exists()
    assert forked(command(toy, "MMRL", run, opts=opts), run) == ([0, 0], "")
    ours, theirs = learned(run), learned(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert record(run) == record(whole)


@pytest.mark.slow
def test_torchrun_with_wrong_input(toy, tmp_path):
    run = tmp_path / "run"
    started = torchrun(command(toy, "MMRL", run, opts=("OPTIM.LR", "-1")))
    _, err = started.communicate(timeout=100)
    assert started.returncode == 1
    assert err.startswith("error: OPTIM.LR") and err.count("error: ") == 1
    assert re.search(r"exitcode\s*: 2\b", err)
    assert not run.exists()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_two_gpus(precision, toy, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, here are {torch.cuda.device_count()}")
    one, several = tmp_path / "one", tmp_path / "several"
    opts = (*SAVE, "TRAINER.MMRL.PREC", precision)
    assert train.main(command(toy, "MMRL", one, opts=opts)) == 0
    started = torchrun(command(toy, "MMRL", several, opts=opts))
    _, err = started.communicate(timeout=300)
    assert started.returncode == 0, err
    rtol = 1e-3 if precision == "fp32" else 5e-2
    ours, theirs = learned(several), learned(one)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=rtol, atol=rtol / 10)
    assert record(several)["total"] == record(one)["total"]
