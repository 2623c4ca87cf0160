"""Workers: what they compute, how often, and when they stop. Runs are fakes of a moment."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from run.lock import output_lock
from tests.helpers.sweep_runs import RECORD, FakeRuns
from tests.helpers.toy_run import REPO
from tools.sweep import worker as worker_module
from tools.sweep.store import DONE, RUNNING, RunState, RunStore
from tools.sweep.worker import RunsFailed, Worker


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "POLL", 0.05)
    fakes = FakeRuns(tmp_path)
    for name, value in fakes.env.items():
        monkeypatch.setenv(name, value)
    return fakes


def work(fakes, *runs, **options):
    store = RunStore(fakes.output)
    return Worker(fakes.output, runs, store.generation(), **options)()


def test_runs_are_computed_once_in_order(fakes):
    runs = [fakes.run("a"), fakes.run("b"), fakes.run("c")]
    work(fakes, *runs)
    assert fakes.started() == ["a", "b", "c"]
    work(fakes, *runs)
    assert len(fakes.started()) == 3


def test_a_test_waits_for_its_training(fakes):
    work(fakes, fakes.run("new", after="base"), fakes.run("base"))
    assert fakes.started() == ["base", "new"]


@pytest.mark.parametrize("code", [1, 3, 9])
def test_a_failed_run_is_tried_again(fakes, code):
    fakes.fail("a", code)
    work(fakes, fakes.run("a"), retries=1)
    assert fakes.started() == ["a", "a"]


@pytest.mark.parametrize(
    ("code", "retries", "times", "why"),
    [
        (0, 1, 2, "it ended without a result"),
        (1, 2, 3, "exit code 1"),
        (3, 0, 1, "a number became infinite or NaN"),
        (9, 1, 2, "killed by SIGKILL"),
        (2, 3, 1, "refused"),  # the same command would be refused again
    ],
)
def test_a_run_that_keeps_failing_is_given_up_and_takes_only_its_test_along(
    fakes, code, retries, times, why
):
    fakes.fail("bad", *[code] * 9)
    runs = [fakes.run("bad"), fakes.run("its_test", after="bad"), fakes.run("good")]
    with pytest.raises(RunsFailed, match=r"2 of 3 without a result: \['bad', 'its_test'\]"):
        work(fakes, *runs, retries=retries)
    assert fakes.started() == ["bad"] * times + ["good"]
    state = RunStore(fakes.output).state("bad")
    assert state.gave_up and state.why == why and state.attempts == times
    assert RunStore(fakes.output).end_of_log("bad")[-1] == "no luck"


def test_a_run_that_kills_its_worker_each_time_is_given_up(fakes):
    store = RunStore(fakes.output)
    for _ in range(2):
        store.begin("a")  # and never ended
    with pytest.raises(RunsFailed):
        work(fakes, fakes.run("a"), retries=1)
    assert fakes.started() == [] and "its worker was killed" in store.state("a").why


def test_what_slurm_takes_back_without_a_word_does_not_count(tmp_path):
    store = RunStore(tmp_path)
    for restarts in range(5):
        assert store.begin("a", job="7", restarts=restarts).attempts == 1
    assert store.begin("a", job="8").attempts == 2  # another job: the last was lost


def test_several_workers_compute_every_run_once(fakes):
    runs = [fakes.run(f"r{index}", f"r{index - 1}" if index % 2 else None) for index in range(12)]
    code = (
        "from pathlib import Path; from tools.sweep import worker\n"
        "from tools.sweep.protocols import Run\n"
        f"worker.POLL = 0.05; runs = [Run(*run) for run in {[tuple(run) for run in runs]!r}]\n"
        f"worker.Worker(Path({str(fakes.output)!r}), runs, 0)()"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=REPO, env=os.environ | {"NAP": "0.05"})
        for _ in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    started = fakes.started()
    assert sorted(started) == sorted(run.directory for run in runs)
    assert all(started.index(r.after) < started.index(r.directory) for r in runs if r.after)


def test_a_run_that_train_py_computes_already_is_left_to_it(fakes):
    """As after a worker was killed, whose run lives on."""

    def ends_later():
        time.sleep(0.3)
        fakes.output.joinpath("a", "results.json").write_text(json.dumps(RECORD))

    with output_lock(fakes.output / "a"):
        thread = threading.Thread(target=ends_later)
        thread.start()
        work(fakes, fakes.run("a"))
    thread.join()
    assert fakes.started() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_lets_the_run_save_and_begins_no_other(fakes, number, monkeypatch):
    monkeypatch.setenv("NAP", "60")
    threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
    before = signal.getsignal(number)
    work(fakes, fakes.run("a"), fakes.run("b"))
    assert signal.getsignal(number) == before
    store = RunStore(fakes.output)
    assert fakes.started() == ["a"] and store.end_of_log("a")[-1] == "saved"
    state = store.state("a")
    assert state.attempts == 0 and state.code == 75 and not state.gave_up


def test_workers_end_with_the_process_that_started_them(fakes, monkeypatch):
    monkeypatch.setenv("NAP", "60")
    owner = fakes.folder / "owner"
    lock = output_lock(owner)
    lock.__enter__()
    threading.Timer(0.5, lock.__exit__, (None, None, None)).start()
    work(fakes, fakes.run("a"), owner=owner)
    assert RunStore(fakes.output).end_of_log("a")[-1] == "saved"


def test_runs_that_cannot_be_started_are_given_up(fakes, monkeypatch):
    monkeypatch.setenv("PYTHON", str(fakes.folder / "no_such_python"))
    with pytest.raises(RunsFailed):
        work(fakes, fakes.run("a"), retries=1)
    state = RunStore(fakes.output).state("a")
    assert (state.gave_up, state.why, state.attempts) == (True, "could not be started", 2)
    assert "no_such_python" in RunStore(fakes.output).end_of_log("a")[-1]


def test_a_damaged_state_is_a_run_that_was_never_begun(tmp_path):
    store = RunStore(tmp_path)
    store.begin("a")
    store.log("a").with_name("state.json").write_text('{"attempts": ')
    assert store.state("a") == RunState()
    store.log("a").with_name("state.json").write_text('{"of_a_later_version": 1}')
    assert store.state("a") == RunState()


def test_a_run_is_done_when_it_has_ended(fakes):
    """train.py writes its results twice: once as soon as it has them, then with details."""
    store = RunStore(fakes.output)
    work(fakes, fakes.run("a"))
    with output_lock(fakes.output / "a"):
        assert store.status("a").name == RUNNING
    assert store.status("a").name == DONE


def test_a_run_that_somebody_else_started_meanwhile_is_left_to_him(fakes, monkeypatch):
    """train.py was called by hand while the worker's own was starting: it is refused."""
    fakes.fail("a", 2)
    store = RunStore(fakes.output)
    hold = output_lock(fakes.output / "a")
    original = RunStore.claim

    @contextmanager
    def claim_then_hold(self, folder):
        with original(self, folder) as got:
            if not fakes.started():
                hold.__enter__()
                threading.Timer(0.4, hold.__exit__, (None, None, None)).start()
            yield got

    monkeypatch.setattr(RunStore, "claim", claim_then_hold)
    work(fakes, fakes.run("a"), retries=0)
    assert fakes.started() == ["a", "a"] and not store.state("a").gave_up


def test_failures_are_forgotten_but_not_of_runs_that_are_computed(tmp_path):
    store = RunStore(tmp_path)
    store.begin("a")
    store.begin("b")
    with store.claim("b"):
        store.forget_failures(["a", "b"])
    assert store.state("a") == RunState() and store.state("b").attempts == 1


def test_a_slurm_job_whose_run_another_job_computes_ends(fakes, monkeypatch):
    store = RunStore(fakes.output)
    store.begin("a", job="6")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with store.claim("a"), pytest.raises(RunsFailed):
        work(fakes, fakes.run("a"))
    assert fakes.started() == []
