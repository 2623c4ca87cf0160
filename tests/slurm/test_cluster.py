"""What Slurm does to jobs, as far as a sweep relies on it."""

import operator
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import submitit

from tests.helpers.toy_run import REPO
from tests.slurm.cluster import CPUS, ask, processes_of, wait_for
from tests.slurm.jobs import SIGNAL_DELAY, Nap, kill, notes, restarts, sbatch, state

pytestmark = pytest.mark.slurm
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


@pytest.fixture
def executor(slurm, tmp_path):
    made = submitit.SlurmExecutor(tmp_path / "jobs", max_num_timeout=5)
    made.update_parameters(partition="low", cpus_per_task=1, mem="100M", time=5)
    return made


def nap(executor, folder: Path, **parameters) -> submitit.Job:
    """A Nap that has started, on the whole node."""
    executor.update_parameters(cpus_per_task=CPUS, **parameters)
    job = executor.submit(Nap(), folder, 7)
    wait_for("the nap to start", lambda: notes(folder) == ["starts"])
    return job


def wake(job: submitit.Job, folder: Path) -> int:
    (folder / "wake").touch()
    wait_for("a result", job.paths.result_pickle.exists)
    return job.result()


def test_an_array_runs_through(executor):
    jobs = executor.map_array(operator.mul, range(5), range(5))
    wait_for("all results", lambda: all(job.paths.result_pickle.exists() for job in jobs), 60)
    assert [job.result() for job in jobs] == [0, 1, 4, 9, 16]
    array = jobs[0].job_id.partition("_")[0]
    assert [job.job_id for job in jobs] == [f"{array}_{i}" for i in range(5)]


def test_a_preempted_job_saves_makes_way_and_goes_on(executor, tmp_path):
    job = nap(executor, tmp_path)
    urgent = sbatch("true", "--partition=high", f"--cpus-per-task={CPUS}")
    wait_for("the urgent job to end", lambda: state(urgent) == "COMPLETED")
    wait_for("the nap to go on", lambda: notes(tmp_path) == ["starts", "saves", "starts"])
    assert wake(job, tmp_path) == 7
    assert restarts(job.job_id) == 1


def test_a_job_whose_time_is_over_saves_and_goes_on(executor, tmp_path):
    job = nap(executor, tmp_path, time=1, signal_delay_s=SIGNAL_DELAY)
    wait_for("the nap to go on", lambda: notes(tmp_path) == ["starts", "saves", "starts"])
    assert wake(job, tmp_path) == 7


def test_a_killed_job_has_failed_and_a_requeued_one_starts_again(executor, tmp_path):
    job = nap(executor, tmp_path)
    kill(job.job_id)
    wait_for("the job to end", lambda: state(job.job_id) in ENDED)
    assert state(job.job_id) == "FAILED"
    ask("scontrol", "requeue", job.job_id)
    wait_for("the nap to start again", lambda: notes(tmp_path) == ["starts", "starts"])
    assert wake(job, tmp_path) == 7


def test_what_depends_on_a_failed_task_is_cancelled(slurm):
    fails_first = 'sleep 1; [ "$SLURM_ARRAY_TASK_ID" != 0 ]'
    first = sbatch(fails_first, "--array=0-1")
    flags = ("--kill-on-invalid-dep=yes", "--array=0-1")
    each = sbatch("true", f"--dependency=aftercorr:{first}", *flags)
    all_of_them = sbatch("true", f"--dependency=afterok:{first}", *flags[:1])
    jobs = [f"{first}_0", f"{first}_1", f"{each}_0", f"{each}_1", all_of_them]
    wait_for("all to end", lambda: {state(job) for job in jobs} <= {*ENDED})
    assert [state(job) for job in jobs] == [
        *("FAILED", "COMPLETED"),
        *("CANCELLED", "COMPLETED"),
        "CANCELLED",
    ]


def test_a_task_that_requeues_itself_has_not_failed(slurm, tmp_path):
    task = '"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"'
    once = f"if [ -z $SLURM_RESTART_COUNT ]; then scontrol requeue {task}; exit 255; fi"
    first = sbatch(once, "--array=0-1")
    flags = ("--kill-on-invalid-dep=yes", "--array=0-1")
    then = sbatch("true", f"--dependency=aftercorr:{first}", *flags)
    jobs = [f"{job}_{task}" for job in (first, then) for task in (0, 1)]
    wait_for("all to end", lambda: {state(job) for job in jobs} <= {*ENDED}, 60)
    assert {state(job) for job in jobs} == {"COMPLETED"}


def test_nothing_is_left_behind(slurm, tmp_path):
    """A second Slurm, ended by a signal while a job runs that is deaf to them."""
    deaf = f"trap '' TERM; touch {tmp_path}/started; while true; do sleep 0.1; done"
    submit = f"sbatch --output=/dev/null --wrap {shlex.quote(deaf)}"
    command = f"echo $SLURM_CONF > {tmp_path}/conf; {submit}; sleep 1000"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.slurm.cluster", "--", "bash", "-c", command],
        cwd=REPO,
        stdout=subprocess.DEVNULL,
    )
    wait_for("the job to start", (tmp_path / "started").exists)
    process.terminate()
    assert process.wait(60) == 130
    conf = Path((tmp_path / "conf").read_text().strip())
    assert conf.parent != slurm and not conf.parent.exists()
    assert not processes_of(conf)
