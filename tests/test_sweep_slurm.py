"""What is said to Slurm, and what is made of its answers; Slurm itself is in `make test-slurm`."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.sweep_runs import FakeRuns
from tests.toy_run import REPO
from tools.sweep import driver as driver_module
from tools.sweep import places, slurm, worker
from tools.sweep.books import Books
from tools.sweep.driver import run_on_slurm
from tools.sweep.places import Cluster
from tools.sweep.protocols import Run
from tools.sweep.slurm import SlurmJobs, read_options
from tools.sweep.worker import Worker


def runs(*names):
    return [Run(name, ()) for name in names]


def arrays(waits, *names, largest=1000):
    found = slurm._arrays(runs(*names), waits, largest)
    return [(dependency, [run.folder for run in group]) for dependency, group in found]


def test_runs_that_wait_for_nothing_are_one_array():
    assert arrays({}, "a", "b", "c") == [(None, ["a", "b", "c"])]
    assert arrays({}, *"abcde", largest=2) == [
        (None, ["a", "b"]),
        (None, ["c", "d"]),
        (None, ["e"]),
    ]


def test_tasks_wait_for_the_task_of_their_number():
    assert arrays({"a": "7_0", "b": "7_1"}, "a", "b") == [("aftercorr:7", ["a", "b"])]
    assert arrays({"a": "7_0"}, "a") == [("afterok:7_0", ["a"])]


def test_other_numbers_wait_one_by_one():
    """As when the training of the first has been finished."""
    waits = {"b": "7_1", "c": "7_2"}
    assert arrays(waits, "b", "c") == [("afterok:7_1", ["b"]), ("afterok:7_2", ["c"])]


def test_targets_wait_for_their_source():
    waits = dict.fromkeys("abc", "7_0") | dict.fromkeys("de", "8")
    expected = [("afterok:7_0", ["a", "b", "c"]), ("afterok:8", ["d", "e"])]
    assert arrays(waits, *"abcde") == expected


def test_options_of_jobs(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("partition: slow\nmem: 8GB\nadditional_parameters: {nice: 100}\n")
    options = read_options(file, {"partition": "fast", "time": 30, "account": None})
    assert options["partition"] == "fast" and options["time"] == 30 and options["mem"] == "8GB"
    assert "account" not in options
    expected = {"requeue": True, "kill-on-invalid-dep": "yes", "nice": 100}
    assert options["additional_parameters"] == expected
    more = read_options(file, {}, ["--qos=low", "nice=5"])["additional_parameters"]
    assert more == expected | {"qos": "low", "nice": "5"}
    with pytest.raises(ValueError, match="--slurm-option qos is not NAME=VALUE"):
        read_options(None, {}, ["qos"])


@pytest.mark.parametrize("text", ["- a", "a: [", "1: 2", "\x00"])
def test_a_file_of_options_that_is_none(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"--slurm-file .*mine.yaml"):
        read_options(file, {})


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Slurm's commands that note what they are given."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, answer in {
        "sbatch": 'cp "$1" "$SAID/script-$(ls "$SAID" | wc -l)"; echo "Submitted batch job 7"',
        "srun": "",
        "squeue": 'cat "$SAID/../queue" || exit 1',
        "scancel": 'echo "$@" >> "$SAID/../cancelled"',
        "scontrol": 'echo "MaxArraySize            = 3"',
    }.items():
        file = place / name
        file.write_text(f"#!/bin/sh\n{answer}\n")
        file.chmod(0o755)
    said = tmp_path / "said"
    said.mkdir()
    monkeypatch.setenv("SAID", str(said))
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    return said


def jobs(folder, **flags):
    return SlurmJobs(folder / "submitit", Worker(folder, [], 0), read_options(None, flags))


def test_what_sbatch_gets(commands, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    slurm_jobs = jobs(tmp_path, partition="gpu", time=30, gpus_per_node=1, cpus_per_task=6)
    assert list(slurm_jobs.submit(runs("a", "b"), {})) == [{"a": "7_0", "b": "7_1"}]
    (script,) = commands.iterdir()
    text = script.read_text()
    for line in (
        "--array=0-1%2",
        "--partition=gpu",
        "--time=30",
        "--gpus-per-node=1",
        "--cpus-per-task=6",
        "--requeue",
        "--kill-on-invalid-dep=yes",
        "--signal=USR2@120",
        "--open-mode=append",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "export PYTHONPATH=" in text and "submitit.core._submit" in text


def test_arrays_are_as_large_as_slurm_allows(commands, tmp_path):
    list(jobs(tmp_path).submit(runs(*"abcd"), {}))
    texts = [file.read_text() for file in sorted(commands.iterdir())]
    assert ["--array=0-2%3" in text for text in texts] == [True, False]


def test_unknown_options_and_no_slurm_are_refused(commands, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="colour"):
        jobs(tmp_path, colour="red")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="sbatch, srun, squeue, scancel, scontrol cannot be found"):
        jobs(tmp_path)


def test_a_refusal_of_sbatch_is_told(commands, tmp_path):
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'invalid partition specified: gpu' >&2; exit 1\n")
    with pytest.raises(OSError, match="invalid partition specified: gpu"):
        list(jobs(tmp_path).submit(runs("a"), {}))


def test_the_queue(commands, tmp_path):
    assert slurm.queue() is None  # it does not answer
    (tmp_path / "queue").write_text("7_0|RUNNING\n7_1|PENDING\n6|COMPLETED\n")
    assert slurm.queue() == {"7_0": "RUNNING", "7_1": "PENDING"}
    slurm.cancel(["7_1", "8"])
    assert (tmp_path / "cancelled").read_text() == "--state=PENDING 7_1 8\n"


class FakeSlurm:
    """Jobs that are in the queue until they are taken out."""

    def __init__(self):
        self.submitted, self.queued = [], {}

    def submit(self, together, waits):
        number = len(self.submitted)
        self.submitted.append(([run.folder for run in together], dict(waits)))
        ids = {run.folder: f"{number}_{task}" for task, run in enumerate(together)}
        self.queued |= dict.fromkeys(ids.values(), "PENDING")
        yield ids


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    fake = FakeSlurm()
    monkeypatch.setattr(places, "queue", lambda: dict(fake.queued))
    books = Books(tmp_path)
    books.save_plan([])
    fake.books, fake.place = books, Cluster(books, fake, retries=1)
    fake.todo = {name: Run(name, ()) for name in "ab"} | {"t": Run("t", (), "a")}

    def look(times=1):
        for _ in range(times):
            fake.place.note()
            fake.place.keep_going(fake.todo)

    fake.look = look
    return fake


def test_everything_is_submitted_at_once_and_only_once(cluster):
    cluster.look(5)
    assert cluster.submitted == [(["a", "b"], {}), (["t"], {"t": "0_0"})]
    assert cluster.books.jobs() == {"a": "0_0", "b": "0_1", "t": "1_0"}


def test_a_sweep_that_is_started_again_knows_its_jobs(cluster):
    cluster.look()
    cluster.place = Cluster(cluster.books, cluster, retries=1)
    cluster.look(3)
    assert len(cluster.submitted) == 2


def test_a_job_that_is_lost_is_submitted_again_and_in_the_end_given_up(cluster):
    cluster.look()
    del cluster.todo["t"]
    for expected in (["b"], None, None):
        cluster.queued = {
            job: s for job, s in cluster.queued.items() if "_0" in job[1:] and job[0] == "0"
        }
        cluster.look(3)
        if expected:
            assert cluster.submitted[-1] == (expected, {})
    assert cluster.books.state("b").gave_up and not cluster.books.state("a").gave_up
    assert "ended without it" in cluster.books.state("b").why


def test_a_test_that_went_with_its_training_comes_back_with_it(cluster):
    cluster.look()
    cluster.queued = {}
    cluster.look(3)
    assert cluster.submitted[2:] == [(["a", "b"], {}), (["t"], {"t": "2_0"})]
    cluster.books.output.joinpath("a").mkdir()
    cluster.books.output.joinpath("a", "results.json").write_text('{"complete": true}')
    del cluster.todo["a"]  # finished, while its test was taken out of the queue
    cluster.queued = {"2_1": "RUNNING"}
    cluster.look(3)
    assert cluster.submitted[4:] == [(["t"], {})]


def test_no_answer_of_slurm_changes_nothing(cluster, monkeypatch):
    cluster.look()
    monkeypatch.setattr(places, "queue", lambda: None)
    cluster.look(5)
    assert len(cluster.submitted) == 2


def test_ctrl_c_leaves_the_jobs_alone(cluster, capsys, monkeypatch):
    monkeypatch.setattr(driver_module, "_sleep", lambda *_: signal.raise_signal(signal.SIGINT))
    assert run_on_slurm(cluster.books, list(cluster.todo.values()), 1, cluster) == 130
    assert "the jobs go on" in capsys.readouterr().out


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
    books = Books(on_slurm.output)
    assert books.end_of_log("a")[-1] == "saved" and books.state("a").attempts == 0


def test_a_job_whose_run_is_finished_at_the_end_of_its_time_stays_away(on_slurm, monkeypatch):
    ignores = on_slurm.python.read_text().replace(
        "signal.signal(number, stopped)", "signal.signal(number, signal.SIG_IGN)"
    )
    on_slurm.python.write_text(ignores)
    monkeypatch.setenv("NAP", "1")
    send(signal.SIGUSR2)
    assert Worker(on_slurm.output, [on_slurm.run("a")], 0)() == 1


def test_a_job_that_is_taken_away_waits_for_its_end(on_slurm, monkeypatch):
    """If it ended by itself, Slurm would not bring it back."""
    naps = []
    monkeypatch.setattr(worker.time, "sleep", lambda seconds: naps.append(seconds))
    monkeypatch.setenv("NAP", "60")
    send(signal.SIGTERM)
    Worker(on_slurm.output, [on_slurm.run("a")], 0)()
    assert naps[-1] == worker.LINGER


def test_what_submitit_puts_back_is_the_same_work(tmp_path):
    work = Worker(tmp_path, runs("a"), 3, retries=2, env={"A": "1"})
    again = work.checkpoint()
    assert again.function == work


def test_no_torch_is_needed_to_schedule():
    code = "import sys, tools.sweep.driver, tools.sweep.plan; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0
