"""What is said to Slurm, and what it answers; Slurm itself is in `make test-slurm`."""

import pytest

from tools.sweep import cli, slurm
from tools.sweep.protocols import Run
from tools.sweep.slurm import Submitter, read_options
from tools.sweep.store import RunStore
from tools.sweep.worker import Worker


def runs(*names):
    return [Run(name, ()) for name in names]


def arrays(waits, *names, largest=1000):
    found = slurm.arrays(runs(*names), waits, largest)
    return [(dependency, [run.directory for run in group]) for dependency, group in found]


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
    file.write_text("time: 1:30:00\nadditional_parameters: {time-min: 30:00, exclusive: yes}\n")
    options = read_options(file, {})
    assert options["time"] == "1:30:00"  # and refused: minutes are wanted; YAML says 5400
    assert (
        options["additional_parameters"].items() >= {"time-min": "30:00", "exclusive": True}.items()
    )
    file.write_text("additional_parameters: {nice: 100}")
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
    return Submitter(folder / "submitit", Worker(folder, [], 0), read_options(None, flags))


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


def test_cancel_takes_waiting_jobs_out_of_the_queue(commands, tmp_path, capsys):
    store = RunStore(tmp_path)
    store.save_plan(runs("a", "b"))
    store.add_jobs({"a": "7_0", "b": "7_1"})
    (tmp_path / "queue").write_text("7_0|RUNNING\n7_1|PENDING\n9|PENDING\n")
    assert cli.main(["cancel", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "cancelled").read_text() == "--state=PENDING 7_1\n"
    assert "1 jobs were waiting" in capsys.readouterr().out and store.generation() == 1
    (tmp_path / "queue").unlink()
    assert cli.main(["cancel", "--output", str(tmp_path)]) == 2  # Slurm does not answer
    assert "say it again" in capsys.readouterr().err


@pytest.mark.parametrize("minutes", [1, 2])
def test_a_job_too_short_to_save_is_refused(commands, tmp_path, minutes):
    with pytest.raises(ValueError, match="give more --time"):
        jobs(tmp_path, time=minutes)
