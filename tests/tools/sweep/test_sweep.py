"""Whole sweeps on this machine: killed, stopped, cancelled, failing. Runs are fakes of a moment."""

import os
import re
import signal
import time

import pytest

from tests.helpers.sweep_runs import FakeRuns
from tests.helpers.toy_run import REPO
from tools.sweep.store import RunStore

SMALL = ("few_shot", "--methods", "MMRL", "--datasets", "dtd", "--seeds", "1")
FIVE = [f"few_shot/dtd/shots_{k}/MMRL/vit_b16_few_shot/seed1" for k in (1, 2, 4, 8, 16)]


@pytest.fixture
def fakes(tmp_path):
    return FakeRuns(tmp_path)


def wait_for(what, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def workers_of(fakes):
    """Processes that hold runs, from what their locks say."""
    store = RunStore(fakes.output)
    holders = [store.holder(folder) for folder in FIVE]
    return {int(re.search(r"process (\d+)", holder)[1]) for holder in holders if holder}


def test_a_sweep_and_the_same_command_again(fakes):
    done = fakes.sweep(*SMALL, "--workers", "2")
    assert done.returncode == 0, done.err
    assert done.out.startswith("5 runs, 0 of them finished already\n")
    assert "[5/5] " in done.out and done.out.endswith("all runs finished\n")
    assert "MMRL dtd 16 shots seed 1: done in 2.0 s" in done.out
    assert len(fakes.started()) == 5
    again = fakes.sweep(*SMALL)
    assert again.returncode == 0 and len(fakes.started()) == 5
    assert again.out == "5 runs, 5 of them finished already\nall runs finished\n"
    status = fakes.sweep("status")
    assert re.search(r"few_shot +MMRL/vit_b16_few_shot +dtd +5 *\n", status.out)


def test_failures_are_reported_and_tried_again_by_the_same_command(fakes):
    fakes.fail("seed1", 1, 1)  # one run fails twice; whichever comes first
    done = fakes.sweep(*SMALL, "--retries", "1")
    assert done.returncode == 1
    assert done.err.count("exit code 1; tried 2 times") == 1 and "    no luck" in done.err
    assert "1 failed" in done.err and "all of it: " in done.err
    assert len(fakes.started()) == 6
    status = fakes.sweep("status")
    assert status.returncode == 0 and "exit code 1; tried 2 times" in status.out
    assert fakes.sweep(*SMALL).returncode == 0 and len(fakes.started()) == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_sweep_that_is_stopped_has_its_runs_save(fakes, number, code):
    sweep = fakes.sweep(*SMALL, "--workers", "2", wait=False, NAP="60")
    wait_for(lambda: len(fakes.started()) == 2)
    workers = workers_of(fakes)
    os.killpg(sweep.pid, number)  # as Ctrl-C in a terminal
    out, err = sweep.communicate(timeout=30)
    assert sweep.returncode == code and "the same command continues" in out, err
    assert not any(map(is_alive, workers)) and len(fakes.started()) == 2
    saved = [f for f in FIVE if RunStore(fakes.output).end_of_log(f)[-1:] == ["saved"]]
    assert len(saved) == 2
    assert fakes.sweep(*SMALL).returncode == 0 and len(fakes.started()) == 7


def processes_of_runs(fakes):
    """Of all attempts, by what they printed."""
    logs = [RunStore(fakes.output).log(folder) for folder in FIVE]
    text = "".join(log.read_text() for log in logs if log.exists())
    return [int(pid) for pid in re.findall(r"process (\d+)", text)]


@pytest.mark.slow
def test_a_sweep_that_is_killed_has_its_runs_save_and_loses_nothing(fakes):
    sweep = fakes.sweep(*SMALL, "--workers", "2", wait=False, NAP="60")
    wait_for(lambda: len(processes_of_runs(fakes)) == 2)
    workers, runs = workers_of(fakes), processes_of_runs(fakes)
    sweep.kill()
    sweep.communicate()
    wait_for(lambda: not any(map(is_alive, [*workers, *runs])))
    saved = [f for f in FIVE if RunStore(fakes.output).end_of_log(f)[-1:] == ["saved"]]
    assert len(saved) == 2
    again = fakes.sweep(*SMALL, "--workers", "2")
    assert again.returncode == 0, again.err
    assert len(fakes.started()) == 7  # two were continued
    assert all(RunStore(fakes.output).state(folder).attempts == 1 for folder in FIVE)


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["0", "0.7"])  # it may be killed before it takes its own lock
def test_a_worker_that_is_killed_is_replaced_and_its_run_ends(fakes, imports):
    sweep = fakes.sweep(*SMALL, "--retries", "0", wait=False, IMPORTS=imports, NAP="0.2")
    wait_for(lambda: workers_of(fakes))
    os.kill(workers_of(fakes).pop(), signal.SIGKILL)
    _, err = sweep.communicate(timeout=60)
    # with no retries the run that was killed is given up, unless it was not begun
    assert sweep.returncode in (0, 1) and "die at once" not in err
    assert len(list(fakes.output.rglob("results.json"))) >= 4
    assert fakes.sweep(*SMALL).returncode == 0


@pytest.mark.slow
def test_a_run_outlives_its_worker_only_for_as_long_as_it_saves(fakes):
    """Where it cannot be told, its claim keeps others away until it has ended."""
    deaf = fakes.python.read_text().replace("(number, stopped)", "(number, signal.SIG_IGN)")
    fakes.python.write_text(deaf)
    sweep = fakes.sweep(*SMALL, wait=False, NAP="1.5", IMPORTS="0.5")
    wait_for(lambda: workers_of(fakes))
    (worker,) = workers_of(fakes)
    time.sleep(0.2)  # the run has been started, and holds nothing but the claim
    os.kill(worker, signal.SIGKILL)
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, err
    assert sorted(fakes.started()) == ["seed1"] * 5  # none was started beside another


def test_runs_that_cannot_be_started_say_why(fakes, tmp_path):
    done = fakes.sweep(*SMALL, PYTHON=str(tmp_path / "no_such_python"))
    assert done.returncode == 2 and done.err.startswith("error: the Python of the runs, ")
    assert "no_such_python, cannot be started (No such file" in done.err
    assert not fakes.output.exists()


def test_workers_that_die_at_once_end_the_sweep_with_their_words(fakes, tmp_path):
    broken = tmp_path / "sitecustomize.py"
    broken.write_text("import sys\nif 'pickle' in sys.orig_argv[-1]: sys.exit('no such library')")
    done = fakes.sweep(*SMALL, PYTHONPATH=f"{tmp_path}{os.pathsep}{REPO}")
    assert done.returncode == 2 and "no such library" in done.err


def test_cancel_stops_what_runs(fakes):
    sweep = fakes.sweep(*SMALL, "--workers", "2", wait=False, NAP="60")
    wait_for(lambda: len(fakes.started()) == 2)
    status = fakes.sweep("status")
    assert re.search(r"all +2 +3 *\n", status.out)  # running, waiting
    cancel = fakes.sweep("cancel")
    assert cancel.returncode == 0 and cancel.out.startswith("2 runs are told to save and end")
    out, _ = sweep.communicate(timeout=30)
    assert sweep.returncode == 130 and "cancelled: the same command continues" in out
    assert len(fakes.started()) == 2
    assert fakes.sweep(*SMALL).returncode == 0 and len(fakes.started()) == 7


@pytest.mark.slow
def test_two_sweeps_share_the_work(fakes):
    first = fakes.sweep(*SMALL, wait=False, NAP="0.3")
    second = fakes.sweep(*SMALL, wait=False, NAP="0.3")
    for sweep in (first, second):
        out, err = sweep.communicate(timeout=60)
        assert sweep.returncode == 0 and "all runs finished" in out, err
    assert len(fakes.started()) == 5


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_where_no_sweep_was(fakes, command):
    done = fakes.sweep(command)
    assert done.returncode == 2 and "no sweep was started in" in done.err
    assert not fakes.output.exists()


def test_gpus_are_dealt_out(monkeypatch):
    from tools.sweep.executors import environments

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [env["CUDA_VISIBLE_DEVICES"] for env in environments(None, 1)] == ["3", "5"]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in environments(3, 1)] == ["3", "5", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environments(2, 4) == [{"OMP_NUM_THREADS": "4"}] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert environments(None, None) == [{}]
