"""The run store: which runs of an output directory are finished, running, waiting or failed.

    .sweep/plans/<name>.json      the runs of each sweep that was started, for `status`
    .sweep/runs/<directory>/      state.json, output.log and, while the run is computed, .lock
    .sweep/generation             a number that `cancel` raises; workers of an older one stop
    .sweep/jobs.jsonl             the Slurm job of each run
    .sweep/submitit/              submitit's own files

A run is finished if its results.json says so, and is being computed if somebody holds its lock,
which ends with the process. So a killed process leaves nothing false behind.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from run.lock import lock_holder, output_lock
from run.reader import read_record
from tools.sweep.protocols import Run, RunPath

DONE, RUNNING, WAITING, FAILED = STATUSES = ("done", "running", "waiting", "failed")


class RunLock(NamedTuple):
    """The lock of a run. A process that inherits the handle holds it, too."""

    handle: int | None  # None on a disk without locks


class RunStatus(NamedTuple):
    name: str  # one of STATUSES
    why: str = ""  # it failed


@dataclass
class RunState:
    """The attempts at a run. Times are seconds since 1970."""

    attempts: int = 0  # without those that were stopped from outside
    started: float = 0.0  # the last attempt
    ended: float | None = None  # None: it runs, or was killed together with its worker
    code: int | None = None  # exit code of the last attempt
    gave_up: bool = False  # it failed as often as it may
    why: str = ""
    job: str = ""  # of Slurm
    restarts: int = 0  # how often Slurm had restarted the job


class RunStore:
    """Reads and writes what is known of runs, by their directories below `output`."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.root = output / ".sweep"

    def _place(self, directory: str) -> Path:
        return self.root / "runs" / directory

    # Results and locks

    def is_finished(self, directory: str, after: str | None = None) -> bool:
        """Whether a run has its result and, if it is a test, its training run `after` has, too."""
        return self.seconds(directory) is not None and (after is None or self.is_finished(after))

    def seconds(self, directory: str) -> float | None:
        """The time that a finished run took; None if it is not finished."""
        place = self.output / directory
        try:
            record, metrics = read_record(place / "results.json")
        except (OSError, ValueError):
            return None
        if not metrics or _was_retrained(record, place):
            return None
        seconds = record.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else 0.0

    def holder(self, directory: str) -> str | None:
        """The process that computes a run now: a worker, or train.py on its own."""
        return lock_holder(self._place(directory)) or lock_holder(self.output / directory)

    @contextmanager
    def claim(self, directory: str) -> Iterator[RunLock | None]:
        """Lock a run against other workers; None if somebody else computes it."""
        lock = output_lock(self._place(directory))
        try:
            handle = lock.__enter__()
        except ValueError:
            yield None
            return
        try:
            yield None if lock_holder(self.output / directory) else RunLock(handle)
        finally:
            lock.__exit__(None, None, None)

    # Attempts

    def state(self, directory: str) -> RunState:
        """The last state written; a damaged or missing file is a run that was never begun."""
        with suppress(OSError, ValueError, TypeError):
            return RunState(**json.loads((self._place(directory) / "state.json").read_bytes()))
        return RunState()

    def write_state(self, directory: str, state: RunState) -> None:
        _replace(self._place(directory) / "state.json", json.dumps(asdict(state)))

    def forget_failures(self, directories: Iterable[str]) -> None:
        """Let failed runs be tried again; running ones are left alone."""
        for directory in directories:
            if not lock_holder(self._place(directory)):
                (self._place(directory) / "state.json").unlink(missing_ok=True)

    def begin(self, directory: str, job: str = "", restarts: int = 0) -> RunState:
        """Count an attempt, unless Slurm only restarted the job of the last one."""
        last = self.state(directory)
        restarted = last.job != "" and last.job == job and last.restarts < restarts
        attempts = last.attempts - int(restarted and last.ended is None)
        state = RunState(attempts + 1, time.time(), job=job, restarts=restarts)
        self.write_state(directory, state)
        return state

    def status(self, directory: str, after: str | None = None) -> RunStatus:
        """The status of a run now. A test whose training run failed has failed, too."""
        if self.holder(directory):  # results.json may get more yet
            return RunStatus(RUNNING)
        if self.is_finished(directory, after):
            return RunStatus(DONE)
        state = self.state(directory)
        if state.gave_up:
            times = "once" if state.attempts == 1 else f"{state.attempts} times"
            return RunStatus(FAILED, f"{state.why}; tried {times}")
        if after and self.status(after).name == FAILED:
            return RunStatus(FAILED, f"waited for {RunPath.parse(after).words()}")
        return RunStatus(WAITING)

    def log(self, directory: str) -> Path:
        """What train.py printed, all attempts."""
        return self._place(directory) / "output.log"

    def end_of_log(self, directory: str, lines: int = 15) -> list[str]:
        try:
            with open(self.log(directory), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 20_000))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-lines:]

    # Sweeps

    def generation(self) -> int:
        with suppress(OSError, ValueError):
            return int((self.root / "generation").read_text())
        return 0

    def next_generation(self) -> None:
        """Stop all workers of the present one."""
        _replace(self.root / "generation", str(self.generation() + 1))

    def save_plan(self, runs: Sequence[Run]) -> None:
        """Remember the runs of a sweep; the same sweep replaces itself."""
        found = {run.directory: run.after for run in runs}
        key = hashlib.sha256("\n".join(found).encode()).hexdigest()[:12]
        _replace(self.root / "plans" / f"{key}.json", json.dumps({"runs": found}))

    def plan(self) -> dict[str, str | None]:
        """Directories of the runs of all sweeps, and of the training runs they wait for."""
        runs: dict[str, str | None] = {}
        for file in sorted((self.root / "plans").glob("*.json")):
            with suppress(OSError, ValueError, TypeError, KeyError):
                runs |= json.loads(file.read_bytes())["runs"]
        return runs

    def add_jobs(self, jobs: dict[str, str]) -> None:
        """Remember the Slurm jobs of runs."""
        with open(self.root / "jobs.jsonl", "a") as file:
            file.writelines(json.dumps(pair) + "\n" for pair in jobs.items())

    def jobs(self) -> dict[str, str]:
        """The last Slurm job of every run that had one."""
        found = {}
        with suppress(OSError):
            for line in (self.root / "jobs.jsonl").read_text().splitlines():
                with suppress(ValueError):  # a line that was cut off
                    directory, job = json.loads(line)
                    found[directory] = job
        return found


def _was_retrained(record: dict[str, Any], place: Path) -> bool:
    """Whether the weights that a run tested were trained again since."""
    tested = record.get("checkpoint")
    if not isinstance(tested, dict):
        return False
    file = place / str(tested.get("file"))
    with suppress(OSError):  # not there: nobody can test it again
        stat = file.stat()
        if (stat.st_size, stat.st_mtime_ns) != (tested.get("bytes"), tested.get("mtime_ns")):
            from frozen_clip import file_hash  # late: it takes torch, and is seldom needed

            return file_hash(file) != record.get("checkpoint_hash")
    return False


def _replace(path: Path, text: str) -> None:
    """Atomic write, without forcing it to the disk: results.json decides, which is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)
