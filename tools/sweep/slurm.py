"""Speaks to Slurm: options of jobs, job arrays through submitit, the queue."""

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.safe_yaml import read_as_written, read_yaml
from tools.sweep.protocols import REPO, Run
from tools.sweep.worker import Worker

DEFAULTS = {
    "job_name": "sweep",
    "time": 120,  # minutes
    "cpus_per_task": 4,
    "signal_delay_s": 120,  # before the end of the time, to save
    "array_parallelism": 256,
}
MAX_TIMEOUTS = 1000  # how often a job may be requeued because its time was over
LEAST = 30  # seconds of work in a job
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
LARGEST_ARRAY = 1000  # tasks, where Slurm does not say

Options = dict[str, Any]


def read_options(
    file: Path | None, flags: Mapping[str, object], more: Sequence[str] = ()
) -> Options:
    """submitit's parameters of a job: defaults < YAML file < flags that are not None.

    `more`: options of sbatch as NAME=VALUE, which win. Raises ValueError for a file that cannot
    be read or holds something else, and for what is no NAME=VALUE.
    """
    from_file = _read(file) if file is not None else {}
    additional = from_file.pop("additional_parameters", None) or {}
    if not isinstance(additional, dict):
        raise ValueError("additional_parameters is to hold names and values of sbatch's options")
    for option in more:
        name, equals, value = option.lstrip("-").partition("=")
        if not name or not equals:
            raise ValueError(f"--slurm-option {option} is not NAME=VALUE, such as qos=low")
        additional[name] = value
    # A job that is taken away comes back, and one that waits for a failed one goes.
    additional = {"requeue": True, "kill-on-invalid-dep": "yes"} | additional
    given = {name: value for name, value in flags.items() if value is not None}
    return DEFAULTS | from_file | given | {"additional_parameters": additional}


def _read(file: Path) -> Options:
    try:
        options = _with_clock_times(read_yaml(file), read_as_written(file))
    except (OSError, ValueError) as error:
        raise ValueError(f"--slurm-file {file} cannot be read: {error}") from error
    if not options or not all(isinstance(key, str) for key in options):
        raise ValueError(
            f"--slurm-file {file} is to hold lines such as 'partition: gpu' or 'mem: 16GB'"
        )
    return options


def _with_clock_times(value: Any, written: Any) -> Any:
    """`value` with 1:30:00 as it is written, which YAML takes for 5400."""
    if isinstance(value, dict):
        pairs = zip(value.items(), written.values(), strict=True)
        return {key: _with_clock_times(item, text) for (key, item), text in pairs}
    return str(written) if type(value) is int and ":" in str(written) else value


class Submitter:
    """Submits runs as job arrays, one task per run."""

    def __init__(self, directory: Path, worker: Worker, options: Options) -> None:
        """`directory`: for submitit's files, on a disk that all nodes see.

        Raises ValueError where Slurm's commands are missing, and for unknown options.
        """
        if missing := [name for name in COMMANDS if not shutil.which(name)]:
            raise ValueError(
                f"--on slurm needs Slurm's commands on this machine, and {', '.join(missing)} "
                "cannot be found; use --on local, or log in to the cluster"
            )
        _check_time(options)
        self._directory, self._options = directory, dict(options)
        setup = options.get("setup") or []
        path = f"export PYTHONPATH={shlex.quote(str(REPO))}${{PYTHONPATH:+:$PYTHONPATH}}"
        self._options["setup"] = [*([setup] if isinstance(setup, str) else setup), path]
        threads = {"OMP_NUM_THREADS": str(options.get("cpus_per_task", 1))}
        own = {} if "OMP_NUM_THREADS" in os.environ else threads
        self._worker = replace(worker, env={**worker.env, **own})
        self._executor()

    def _executor(self, **dependency: str) -> Any:
        from submitit import SlurmExecutor

        executor = SlurmExecutor(self._directory, max_num_timeout=MAX_TIMEOUTS)
        executor.update_parameters(**self._options, stderr_to_stdout=True, **dependency)
        return executor

    def submit(self, runs: Sequence[Run], waits: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Submit runs, array by array; yields the jobs of each, by the runs' directories.

        `waits`: the job that a run waits for, by directory. Raises OSError with sbatch's message.
        """
        for dependency, group in arrays(runs, waits, _largest_array()):
            after = {"dependency": dependency} if dependency else {}
            try:
                with _without_ctrl_c():
                    workers = [replace(self._worker, runs=[run]) for run in group]
                    submitted = self._executor(**after).submit_array(workers)
            except RuntimeError as error:
                raise OSError(f"Slurm does not take the jobs: {error}") from error
            ids = [job.job_id for job in submitted]
            yield dict(zip((run.directory for run in group), ids, strict=True))


def _check_time(options: Options) -> None:
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


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Delay Ctrl-C, and keep it from sbatch: a submission is whole, and remembered."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _largest_array() -> int:
    command = ["scontrol", "show", "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.MULTILINE)
    return max(1, min(int(found[1]), LARGEST_ARRAY)) if found else LARGEST_ARRAY


def arrays(
    runs: Sequence[Run], waits: Mapping[str, str], largest: int
) -> list[tuple[str | None, list[Run]]]:
    """(dependency, runs) of each array.

    Runs that wait for the tasks 0, 1, 2, ... of an array are one array, whose tasks wait one by
    one; else the runs that wait for the same job are one.
    """
    groups: dict[str | None, list[Run]] = {}
    for run in runs:
        groups.setdefault(waits.get(run.directory), []).append(run)
    found: list[tuple[str | None, list[Run]]] = []
    pairs: dict[str, list[Run]] = {}  # by array, while the numbers agree
    for job, group in groups.items():
        array, _, number = (job or "").partition("_")
        if len(group) == 1 and number and int(number) == len(pairs.get(array, [])):
            pairs.setdefault(array, []).append(group[0])
            continue
        dependency = job and f"afterok:{job}"
        found += [(dependency, group[i : i + largest]) for i in range(0, len(group), largest)]
    for array, group in pairs.items():
        alone = len(group) == 1  # becomes a job without a number
        found.append((f"afterok:{array}_0" if alone else f"aftercorr:{array}", group))
    return found


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


def cancel_pending(jobs: Iterable[str]) -> None:
    """Take jobs that wait out of the queue."""
    ids = list(jobs)
    for start in range(0, len(ids), 200):
        subprocess.run(["scancel", "--state=PENDING", *ids[start : start + 200]], check=False)
