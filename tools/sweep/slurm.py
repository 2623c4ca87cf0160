"""Workers as job arrays of Slurm, through submitit: one task per run."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from common.safe_yaml import read_as_written, read_yaml
from tools.sweep.local import ctrl_c_later
from tools.sweep.protocols import REPO, Run
from tools.sweep.worker import Worker

DEFAULTS = {
    "job_name": "sweep",
    "time": 120,  # minutes
    "cpus_per_task": 4,
    "signal_delay_s": 120,  # before the end of the time, to save
    "array_parallelism": 256,
}
TIMEOUTS = 1000  # how often a job may be put back because its time was over
LEAST = 30  # seconds of work in a job
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
LARGEST_ARRAY = 1000  # tasks, where Slurm does not say


def read_options(
    file: Path | None, flags: Mapping[str, object], more: Sequence[str] = ()
) -> dict[str, object]:
    """submitit's parameters of a Slurm job: defaults < YAML file < flags that are not None.

    `more`: options of sbatch as NAME=VALUE, which win over all. Raises ValueError for a file that
    does not hold names and values, or is not there, and for what is no NAME=VALUE.
    """
    said = _read(file) if file is not None else {}
    additional = said.pop("additional_parameters", None) or {}
    if not isinstance(additional, dict):
        raise ValueError("additional_parameters is to hold names and values of sbatch's options")
    for option in more:
        name, equals, value = option.lstrip("-").partition("=")
        if not name or not equals:
            raise ValueError(f"--slurm-option {option} is not NAME=VALUE, such as qos=low")
        additional[name] = value
    given = {name: value for name, value in flags.items() if value is not None}
    # A job that is taken away comes back, and one that waits for a failed one goes.
    additional = {"requeue": True, "kill-on-invalid-dep": "yes"} | additional
    return DEFAULTS | said | given | {"additional_parameters": additional}


def _read(file: Path) -> dict[str, object]:
    try:
        said = _with_clock_times(read_yaml(file), read_as_written(file))
    except (OSError, ValueError) as error:
        raise ValueError(f"--slurm-file {file} cannot be read: {error}") from error
    if not said or not all(isinstance(key, str) for key in said):
        raise ValueError(
            f"--slurm-file {file} is to hold lines such as 'partition: gpu' or 'mem: 16GB'"
        )
    return said


def _with_clock_times(value: object, written: object) -> object:
    """`value` with 1:30:00 as it is written, which YAML takes for 5400."""
    if isinstance(value, dict):
        pairs = zip(value.items(), written.values(), strict=True)
        return {key: _with_clock_times(item, text) for (key, item), text in pairs}
    return str(written) if type(value) is int and ":" in str(written) else value


class SlurmJobs:
    """Submits runs, and says which jobs are in the queue."""

    def __init__(self, folder: Path, worker: Worker, options: Mapping[str, object]) -> None:
        """`folder`: for submitit's files, on a disk that all nodes see.

        Raises ValueError where Slurm's commands are not there, or for unknown options.
        """
        lacking = [name for name in COMMANDS if not shutil.which(name)]
        if lacking:
            raise ValueError(
                f"--on slurm needs Slurm's commands on this machine, and {', '.join(lacking)} "
                "cannot be found; use --on local, or log in to the cluster"
            )
        self._folder, self._options = folder, dict(options)
        if isinstance(self._options.get("setup"), str):
            self._options["setup"] = [self._options["setup"]]
        _check_time(self._options)
        threads = {"OMP_NUM_THREADS": str(options.get("cpus_per_task", 1))}
        own = {} if "OMP_NUM_THREADS" in os.environ else threads
        self._worker = replace(worker, env={**worker.env, **own})
        self._executor()

    def _executor(self, dependency: str | None = None):
        from submitit import SlurmExecutor

        executor = SlurmExecutor(self._folder, max_num_timeout=TIMEOUTS)
        setup = [f"export PYTHONPATH={shlex.quote(str(REPO))}${{PYTHONPATH:+:$PYTHONPATH}}"]
        mine = self._options.get("setup") or []
        executor.update_parameters(
            **self._options | {"setup": [*mine, *setup], "stderr_to_stdout": True},
            **({"dependency": dependency} if dependency else {}),
        )
        return executor

    def submit(self, runs: Sequence[Run], waits: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Submit runs, array by array; gives the jobs of each, by the runs' folders.

        `waits`: the job that a run waits for, by folder. Raises OSError with what sbatch said.
        """
        for dependency, together in _arrays(runs, waits, self._largest()):
            try:
                fns = [replace(self._worker, runs=[run]) for run in together]
                with ctrl_c_later():
                    submitted = self._executor(dependency).submit_array(fns)
            except RuntimeError as error:
                raise OSError(f"Slurm does not take the jobs: {error}") from error
            ids = [job.job_id for job in submitted]
            yield dict(zip((run.folder for run in together), ids, strict=True))

    def _largest(self) -> int:
        done = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, check=False
        )
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.MULTILINE)
        return max(1, min(int(found[1]), LARGEST_ARRAY)) if found else LARGEST_ARRAY


def queue() -> dict[str, str] | None:
    """States of this user's jobs in the queue, by submitit's id; None if Slurm does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format", "%i|%T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    pairs = [line.strip().split("|") for line in done.stdout.splitlines() if "|" in line]
    return {job: state for job, state in pairs if state not in ("COMPLETED", "FAILED")}


def cancel(jobs: Iterable[str]) -> int:
    """Take jobs that wait out of the queue; how many there were."""
    ids = list(jobs)
    for start in range(0, len(ids), 200):
        subprocess.run(["scancel", "--state=PENDING", *ids[start : start + 200]], check=False)
    return len(ids)


def _arrays(
    runs: Sequence[Run], waits: Mapping[str, str], largest: int
) -> list[tuple[str | None, list[Run]]]:
    """Runs that are submitted together, with what they wait for.

    Tasks that each wait for the task of the same number of one array do so in one array; else
    those that wait for the same job are one.
    """
    groups: dict[str | None, list[Run]] = {}
    for run in runs:
        groups.setdefault(waits.get(run.folder), []).append(run)
    arrays: list[tuple[str | None, list[Run]]] = []
    pairs: dict[str, list[Run]] = {}  # by array, while the numbers agree
    for job, group in groups.items():
        if job is None:
            arrays += [(None, group[i : i + largest]) for i in range(0, len(group), largest)]
            continue
        array, _, number = job.partition("_")
        if len(group) == 1 and number and int(number) == len(pairs.get(array, [])):
            pairs.setdefault(array, []).append(group[0])
        else:
            chunks = [group[i : i + largest] for i in range(0, len(group), largest)]
            arrays += [(f"afterok:{job}", chunk) for chunk in chunks]
    for array, group in pairs.items():
        alone = len(group) == 1  # becomes a job without a number
        arrays.append((f"afterok:{array}_0" if alone else f"aftercorr:{array}", group))
    return arrays


def _check_time(options: Mapping[str, object]) -> None:
    """ValueError where a job would be told of its end before it has begun."""
    minutes, seconds = options["time"], options["signal_delay_s"]
    if not (isinstance(minutes, int) and isinstance(seconds, int)):
        raise ValueError(f"time is {minutes}, signal_delay_s {seconds}: allowed are whole numbers")
    if minutes * 60 < seconds + LEAST:
        raise ValueError(
            f"a job of {minutes} minutes is told to save {seconds} seconds before its end, which "
            f"leaves it less than {LEAST} to work; give more --time, or a smaller signal_delay_s "
            "in --slurm-file"
        )
