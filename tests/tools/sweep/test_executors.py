"""What is submitted to Slurm when, by one that is made up; Slurm itself is in `make test-slurm`."""

import signal

import pytest

from tools.sweep import driver as driver_module
from tools.sweep import slurm
from tools.sweep.driver import run_on_slurm
from tools.sweep.executors import SlurmExecutor
from tools.sweep.protocols import Run
from tools.sweep.store import RunStore


class FakeSlurm:
    """Jobs that are in the queue until they are taken out."""

    def __init__(self):
        self.submitted, self.queued = [], {}

    def submit(self, together, waits):
        number = len(self.submitted)
        self.submitted.append(([run.directory for run in together], dict(waits)))
        ids = {run.directory: f"{number}_{task}" for task, run in enumerate(together)}
        self.queued |= dict.fromkeys(ids.values(), "PENDING")
        yield ids


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    fake = FakeSlurm()
    monkeypatch.setattr(slurm, "queue", lambda: dict(fake.queued))
    store = RunStore(tmp_path)
    store.save_plan([])
    fake.store, fake.executor = store, SlurmExecutor(store, fake, retries=1)
    fake.todo = {name: Run(name, ()) for name in "ab"} | {"t": Run("t", (), "a")}

    def look(times=1):
        for _ in range(times):
            fake.executor.poll()
            fake.executor.submit_pending(fake.todo)

    fake.look = look
    return fake


def test_everything_is_submitted_at_once_and_only_once(cluster):
    cluster.look(5)
    assert cluster.submitted == [(["a", "b"], {}), (["t"], {"t": "0_0"})]
    assert cluster.store.jobs() == {"a": "0_0", "b": "0_1", "t": "1_0"}


def test_a_sweep_that_is_started_again_knows_its_jobs(cluster):
    cluster.look()
    cluster.executor = SlurmExecutor(cluster.store, cluster, retries=1)
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
    assert cluster.store.state("b").gave_up and not cluster.store.state("a").gave_up
    assert "ended without it" in cluster.store.state("b").why


def test_a_test_that_went_with_its_training_comes_back_with_it(cluster):
    cluster.look()
    cluster.queued = {}
    cluster.look(3)
    assert cluster.submitted[2:] == [(["a", "b"], {}), (["t"], {"t": "2_0"})]
    cluster.store.output.joinpath("a").mkdir()
    cluster.store.output.joinpath("a", "results.json").write_text('{"complete": true}')
    del cluster.todo["a"]  # finished, while its test was taken out of the queue
    cluster.queued = {"2_1": "RUNNING"}
    cluster.look(3)
    assert cluster.submitted[4:] == [(["t"], {})]


def test_no_answer_of_slurm_changes_nothing(cluster, monkeypatch):
    cluster.look()
    monkeypatch.setattr(slurm, "queue", lambda: None)
    cluster.look(5)
    assert len(cluster.submitted) == 2


def test_ctrl_c_leaves_the_jobs_alone(cluster, capsys, monkeypatch):
    monkeypatch.setattr(driver_module, "_sleep", lambda *_: signal.raise_signal(signal.SIGINT))
    assert run_on_slurm(cluster.store, list(cluster.todo.values()), 1, cluster) == 130
    assert "the jobs go on" in capsys.readouterr().out


def test_a_run_that_somebody_computes_is_not_submitted(cluster):
    with cluster.store.claim("b"):
        cluster.look()
    assert cluster.submitted[0] == (["a"], {})


def test_a_partly_refused_submission_is_remembered_and_completed_later(cluster, monkeypatch):
    whole = cluster.submit

    def refuses(together, waits):
        yield from whole(together[:1], waits)
        raise OSError("too many jobs")

    monkeypatch.setattr(cluster, "submit", refuses)
    cluster.look(3)
    assert cluster.store.jobs() == {"a": "0_0"} and len(cluster.submitted) == 1
    monkeypatch.setattr(cluster, "submit", whole)
    monkeypatch.setattr(cluster.executor, "_not_before", 0.0)
    cluster.look()
    assert cluster.store.jobs() == {"a": "0_0", "b": "1_0", "t": "2_0"}


def test_a_submission_that_is_refused_at_once_is_an_error(cluster, monkeypatch):
    def refuses(together, waits):
        raise OSError("invalid partition")
        yield

    monkeypatch.setattr(cluster, "submit", refuses)
    with pytest.raises(OSError, match="invalid partition"):
        cluster.look()


def test_trainings_with_tests_come_first_so_that_numbers_agree(cluster):
    cluster.todo = {"alone": Run("alone", ()), "t": Run("t", (), "a"), "a": Run("a", ())}
    cluster.look()
    assert cluster.submitted == [(["a", "alone"], {}), (["t"], {"t": "0_0"})]
