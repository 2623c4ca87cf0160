"""What is known of a sweep's runs: results.json in their folders, and OUTPUT/.sweep/ beside them.

    .sweep/plans/<name>.json          what was asked for, for `status`
    .sweep/runs/<run's folder>/       state.json, output.log and, while it is computed, .lock
    .sweep/generation                 a number that `cancel` raises; workers of an older one stop
    .sweep/jobs.jsonl                 the Slurm job of each run
    .sweep/submitit/                  submitit's own files

Whether a run is done is in its results.json alone, and whether it is being computed in a lock of
the kernel's: nothing that a killed process could leave behind wrong.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from run.lock import lock_holder, output_lock
from run.reader import read_record
from tools.sweep.protocols import Run

LOG, STATE = "output.log", "state.json"


class Claim(NamedTuple):
    """A run that is held. A process that inherits the handle holds it too."""

    handle: int | None  # None on a disk without locks

    @contextmanager
    def copy(self) -> Iterator[list[int]]:
        """The handle for a child; the original is closed by whatever is forked."""
        if self.handle is None:
            yield []
            return
        copied = os.dup(self.handle)
        try:
            yield [copied]
        finally:
            os.close(copied)


@dataclass
class State:
    """Of the attempts at a run. Times are seconds since 1970."""

    attempts: int = 0  # that were begun, without those that were stopped from outside
    started: float = 0.0  # the last one
    ended: float | None = None  # None: it runs, or it was killed with its worker
    code: int | None = None  # exit code of the last one
    gave_up: bool = False  # it failed as often as it was allowed to
    why: str = ""  # in words
    job: str = ""  # Slurm's
    restarts: int = 0  # how often Slurm had restarted the job


class Books:
    """Reads and writes what is known of runs, by their folders below `output`."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.root = output / ".sweep"

    def place(self, folder: str) -> Path:
        return self.root / "runs" / folder

    def log(self, folder: str) -> Path:
        """What the run's process printed, all attempts."""
        return self.place(folder) / LOG

    def is_finished(self, folder: str, after: str | None = None) -> bool:
        """Whether a run has its result; of a test also whether the training run, `after`, has."""
        return self.seconds(folder) is not None and (after is None or self.is_finished(after))

    def seconds(self, folder: str) -> float | None:
        """That a finished run took; None if it is not finished."""
        place = self.output / folder
        try:
            record, metrics = read_record(place / "results.json")
        except (OSError, ValueError):
            return None
        if not metrics or _has_changed(record, place):
            return None
        seconds = record.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else 0.0

    def holder(self, folder: str) -> str | None:
        """Who computes the run now: a worker, or train.py on its own."""
        return lock_holder(self.place(folder)) or lock_holder(self.output / folder)

    @contextmanager
    def claim(self, folder: str) -> Iterator["Claim | None"]:
        """Hold a run against other workers; None if somebody else has it."""
        with ExitStack() as stack:
            try:
                handle = stack.enter_context(output_lock(self.place(folder)))
            except ValueError:
                yield None
                return
            yield None if lock_holder(self.output / folder) else Claim(handle)

    def state(self, folder: str) -> State:
        """As it was written last; a damaged or missing file is a run that was never begun."""
        with suppress(OSError, ValueError, TypeError):
            return State(**json.loads((self.place(folder) / STATE).read_bytes()))
        return State()

    def write_state(self, folder: str, state: State) -> None:
        place = self.place(folder)
        place.mkdir(parents=True, exist_ok=True)
        _replace(place / STATE, json.dumps(asdict(state)))

    def forget_failures(self, folders: Iterable[str]) -> None:
        """Let runs that were given up be tried again; those that run are left alone."""
        for folder in folders:
            state = self.state(folder)
            if state != State() and not lock_holder(self.place(folder)):
                (self.place(folder) / STATE).unlink(missing_ok=True)

    def begin(self, folder: str, job: str = "", restarts: int = 0) -> State:
        """Count an attempt; one that Slurm took back without a word does not count."""
        last = self.state(folder)
        taken_back = last.job and last.job == job and last.restarts < restarts
        attempts = last.attempts - int(bool(taken_back) and last.ended is None)
        state = State(attempts + 1, time.time(), job=job, restarts=restarts)
        self.write_state(folder, state)
        return state

    def generation(self) -> int:
        with suppress(OSError, ValueError):
            return int((self.root / "generation").read_text())
        return 0

    def next_generation(self) -> int:
        """Stop all workers of the present one."""
        number = self.generation() + 1
        _replace(self.root / "generation", str(number))
        return number

    def save_plan(self, runs: Sequence[Run]) -> None:
        """Remember what was asked for; the same request replaces itself."""
        folders = {run.folder: run.after for run in runs}
        key = hashlib.sha256("\n".join(folders).encode()).hexdigest()[:12]
        place = self.root / "plans"
        place.mkdir(parents=True, exist_ok=True)
        _replace(place / f"{key}.json", json.dumps({"runs": folders}))

    def plan(self) -> dict[str, str | None]:
        """Folders of all runs that were ever asked for, and of those that they wait for."""
        runs: dict[str, str | None] = {}
        for file in sorted((self.root / "plans").glob("*.json")):
            with suppress(OSError, ValueError, TypeError, KeyError):
                runs |= json.loads(file.read_bytes())["runs"]
        return runs

    def note_jobs(self, jobs: dict[str, str]) -> None:
        """Remember the Slurm jobs of runs."""
        with open(self.root / "jobs.jsonl", "a") as file:
            for folder, job in jobs.items():
                file.write(json.dumps([folder, job]) + "\n")

    def jobs(self) -> dict[str, str]:
        """The last Slurm job of every run that had one."""
        found = {}
        with suppress(OSError):
            for line in (self.root / "jobs.jsonl").read_text().splitlines():
                with suppress(ValueError):  # a line that was cut off
                    folder, job = json.loads(line)
                    found[folder] = job
        return found

    def end_of_log(self, folder: str, lines: int = 15) -> list[str]:
        """The last words of a run's process."""
        try:
            with open(self.log(folder), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 20_000))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-lines:]


def _has_changed(record: dict, place: Path) -> bool:
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
    """Readers see the old text or the new one. Not forced onto the disk, which takes long and is
    worth nothing here: what decides is in the runs' own folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)
