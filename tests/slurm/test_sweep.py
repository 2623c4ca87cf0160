"""Sweeps on Slurm: whatever happens to their jobs, they end as one that nobody disturbs."""

import re
import signal
import time
from functools import cache

import pytest
import torch

from tests.house.test_survival import outcome
from tests.slurm.cluster import CPUS, ask, wait_for
from tests.slurm.jobs import kill, restarts, run_out_of_time, sbatch, state
from tests.slurm.sweeps import BATCHES, EPOCHS, LONG, Sweep, finish, tool
from tools.sweep.store import RunStore
from tools.sweep.worker import POLL

pytestmark = pytest.mark.slurm
SAVED = r"stopped by SIG\w+, saved up to"
STEP = re.compile(rf"^epoch \[\d+/{EPOCHS}\] batch \[\d/{BATCHES}\]", re.MULTILINE)


@pytest.fixture(scope="module")
def undisturbed(slurm, toy, tmp_path_factory):
    """Gives the same sweep on this machine, which goes on while there is time to spare."""
    sweep = Sweep(toy, tmp_path_factory.mktemp("undisturbed"))
    driver = sweep.start("--on", "local", "--workers", "2")

    @cache
    def finished() -> Sweep:
        finish(driver)
        return sweep

    return finished


def table(sweep: Sweep) -> str:
    text = finish(tool("parse_test_res", str(sweep.output)))
    assert "MMRL" in text
    return text.replace(str(sweep.output), "")


def assert_same_results(sweep: Sweep, whole: Sweep) -> None:
    for folder in sweep.folders("train_base") + sweep.folders("test_new"):
        tensors, record = outcome(sweep.output / folder)
        expected, numbers = outcome(whole.output / folder)
        assert record == numbers and tensors.keys() == expected.keys()
        assert bool(tensors) == ("train_base" in folder)
        assert all(torch.equal(value, expected[name]) for name, value in tensors.items())


def numbers(status: str) -> dict[str, int]:
    """Of the last row of the table, by column."""
    header, *_, last = status.strip().splitlines()
    ends = {name: header.index(name) + len(name) for name in ("done", "running", "waiting")}
    return {name: int(last[end - 4 : end].strip() or 0) for name, end in ends.items()}


def repeated_steps(log: str) -> int:
    steps = STEP.findall(log)
    assert len(set(steps)) == EPOCHS * BATCHES
    return len(steps) - len(set(steps))


def test_one_job_is_killed_one_runs_out_of_time_one_is_preempted(slurm, undisturbed, toy, tmp_path):
    sweep = Sweep(toy, tmp_path / "output")
    driver = sweep.start_on_slurm()
    sweep.freeze(1, 2)
    first_jobs = RunStore(sweep.output).jobs()
    driver.terminate()
    said, _ = driver.communicate(timeout=LONG)
    assert driver.returncode == 75 and "the jobs go on" in said

    killed = sweep.job(2)
    kill(killed)
    driver = sweep.start_on_slurm()
    sweep.freeze(3)
    urgent = sbatch("true", "--partition=high", f"--cpus-per-task={CPUS - 1}")
    wait_for("the urgent job", lambda: state(urgent) == "COMPLETED")
    restarted = [seed for seed in (1, 3) if restarts(sweep.job(seed))]
    assert len(restarted) == 1  # which of them is Slurm's choice
    run_out_of_time(sweep.job(4 - restarted[0]))
    print(finish(driver))

    assert table(sweep) == table(undisturbed())
    assert_same_results(sweep, undisturbed())
    array, tests = (
        {first_jobs[folder].partition("_")[0] for folder in sweep.folders(part)}
        for part in ("train_base", "test_new")
    )
    assert len(array) == len(tests) == 1  # of three tasks each
    for seed in (1, 3):
        log = sweep.log(sweep.training(seed))
        assert sweep.job(seed) == first_jobs[sweep.training(seed)]
        assert restarts(sweep.job(seed)) == log.count("RESUMING") == 1
        assert len(re.findall(SAVED, log)) == 1
        assert repeated_steps(log) == 0
    assert sweep.job(2) != killed and state(killed) == "FAILED"
    log = sweep.log(sweep.training(2))
    assert log.count("RESUMING") == 1 and repeated_steps(log) <= 5
    for folder in sweep.folders("test_new"):
        assert sweep.log(folder).count("Loading trainer") == 1


def test_status_and_cancel(slurm, undisturbed, toy, tmp_path):
    sweep = Sweep(toy, tmp_path / "output", seeds=(1, 2))
    driver = sweep.start_on_slurm()
    sweep.freeze(1, 2)
    assert numbers(sweep.say("status")) == {"done": 0, "running": 2, "waiting": 2}

    cancel = tool("tools.sweep", "cancel", "--output", str(sweep.output))
    assert cancel.stdout.readline() == "2 runs are told to save and end, 2 jobs were waiting\n"
    time.sleep(2 * POLL)  # until the workers have seen it
    for seed in sweep.seeds:
        sweep.signal(seed, signal.SIGCONT)
    finish(cancel)
    driver.communicate(timeout=LONG)
    assert driver.returncode == 130
    wait_for("the jobs to end", lambda: not ask("squeue", "--noheader"))
    assert numbers(sweep.say("status")) == {"done": 0, "running": 0, "waiting": 4}
    for folder in sweep.folders("train_base"):
        assert len(re.findall(SAVED, sweep.log(folder))) == 1

    finish(sweep.start_on_slurm())
    assert numbers(sweep.say("status")) == {"done": 4, "running": 0, "waiting": 0}
    assert_same_results(sweep, undisturbed())
    for folder in sweep.folders("train_base"):
        assert repeated_steps(sweep.log(folder)) == 0
