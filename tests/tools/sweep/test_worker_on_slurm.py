"""How a worker ends as a job of Slurm: it comes back, or not."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.helpers.sweep_runs import FakeRuns
from tests.helpers.toy_run import REPO
from tools.sweep import worker
from tools.sweep.store import RunStore
from tools.sweep.worker import Worker


class Requeued(Exception):
    pass


@pytest.fixture
def on_slurm(tmp_path, monkeypatch):
    """A worker as a Slurm job, with submitit's handler of SIGUSR2 in place."""
    fakes = FakeRuns(tmp_path)
    for name, value in (fakes.env | {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker, "POLL", 0.05)
    monkeypatch.setattr(worker, "LINGER", 0.01)

    def requeue(number, frame):
        raise Requeued

    before = signal.signal(signal.SIGUSR2, requeue)
    yield fakes
    signal.signal(signal.SIGUSR2, before)


def send(number, seconds=0.5):
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


def test_the_end_of_the_time_puts_a_job_back_into_the_queue_once_its_run_has_saved(
    on_slurm, monkeypatch
):
    monkeypatch.setenv("NAP", "60")
    send(signal.SIGUSR2)
    with pytest.raises(Requeued):
        Worker(on_slurm.output, [on_slurm.run("a")], 0)()
    store = RunStore(on_slurm.output)
    assert store.end_of_log("a")[-1] == "saved" and store.state("a").attempts == 0


def test_a_job_whose_run_is_finished_at_the_end_of_its_time_stays_away(on_slurm, monkeypatch):
    ignores = on_slurm.python.read_text().replace(
        "signal.signal(number, stopped)", "signal.signal(number, signal.SIG_IGN)"
    )
    on_slurm.python.write_text(ignores)
    monkeypatch.setenv("NAP", "1")
    send(signal.SIGUSR2)
    Worker(on_slurm.output, [on_slurm.run("a")], 0)()


def test_a_job_that_is_taken_away_waits_for_its_end(on_slurm, monkeypatch):
    """If it ended by itself, Slurm would not bring it back."""
    naps = []
    monkeypatch.setattr(worker.time, "sleep", lambda seconds: naps.append(seconds))
    monkeypatch.setenv("NAP", "60")
    send(signal.SIGTERM)
    Worker(on_slurm.output, [on_slurm.run("a")], 0)()
    assert naps[-1] == worker.LINGER


def test_no_torch_is_needed_to_schedule():
    code = "import sys, tools.sweep.driver, tools.sweep.status; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0
