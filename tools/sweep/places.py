"""Where the runs of a sweep are computed: on this machine, or on Slurm."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from tools.sweep.books import Books
from tools.sweep.local import LocalWorkers
from tools.sweep.protocols import Run
from tools.sweep.slurm import SlurmJobs, queue

AGAIN = 60.0  # seconds until Slurm is asked again to take what it did not take


class Place(Protocol):
    """Where runs are computed."""

    goes_on: bool  # when this process ends
    longest: float  # seconds between two looks

    def note(self) -> None:
        """Look at the workers; called before the runs are looked at."""

    def keep_going(self, todo: Mapping[str, Run]) -> None:
        """Have the runs computed that are left. OSError if that cannot be."""

    def stop(self) -> None:
        """Have the runs save and end; may be said again."""

    def alive(self) -> bool:
        """Whether any worker is there that `stop` would end."""


class Here:
    """This machine."""

    goes_on, longest = False, 0.5

    def __init__(self, workers: LocalWorkers) -> None:
        self._workers, self._dead = workers, workers.dead()

    def note(self) -> None:
        self._dead = self._workers.dead()

    def keep_going(self, todo: Mapping[str, Run]) -> None:
        self._workers.restart(self._dead)

    def stop(self) -> None:
        self._workers.stop()

    def alive(self) -> bool:
        return self._workers.alive()


class Cluster:
    """Slurm."""

    goes_on, longest = True, 30.0

    def __init__(self, books: Books, slurm: SlurmJobs, retries: int) -> None:
        self._books, self._slurm, self._retries = books, slurm, retries
        self._jobs = books.jobs()
        self._queued: set[str] | None = None  # jobs, when it was looked at last
        self._before: set[str] = set()  # .. and before that
        self._lost: dict[str, tuple[float, int]] = {}  # see _is_given_up
        self._not_before = 0.0

    def note(self) -> None:
        answer = queue()
        if answer is not None:  # else: as it was
            self._before = set(answer) if self._queued is None else self._queued
            self._queued = set(answer)

    def keep_going(self, todo: Mapping[str, Run]) -> None:
        if self._queued is None or time.monotonic() < self._not_before:
            return
        here = self._queued | self._before  # a job that left has had time to say how it ended
        new = [
            run
            for folder, run in todo.items()
            if self._jobs.get(folder) not in here and self._books.holder(folder) is None
        ]
        # Of tests that wait for their training, those alone count that nothing waits for.
        first = [r for r in new if r.after not in todo and not self._is_given_up(r.folder)]
        with_tests = {run.after for run in new}
        first.sort(key=lambda run: run.folder not in with_tests)  # so that numbers agree
        try:
            self._submit(first, {})
            waits = {run.folder: self._jobs.get(run.after or "") for run in new}
            known = {folder: job for folder, job in waits.items() if job in self._queued}
            self._submit([r for r in new if r.after in todo and r.folder in known], known)
        except OSError as error:
            if not self._queued.intersection(self._jobs.values()):
                raise
            print(f"{error}\n.. what is in the queue goes on, the rest follows", flush=True)
            self._not_before = time.monotonic() + AGAIN

    def _is_given_up(self, folder: str) -> bool:
        """Whether the jobs of a run left again and again without having begun it."""
        state = self._books.state(folder)
        started, times = self._lost.get(folder, (state.started, -1))
        times = times + 1 if started == state.started else 0
        self._lost[folder] = (state.started, times)
        if times > self._retries and not state.gave_up:
            state.gave_up, state.why = True, f"its Slurm job {self._jobs[folder]} ended without it"
            self._books.write_state(folder, state)
        return state.gave_up

    def _submit(self, runs: Sequence[Run], waits: Mapping[str, str]) -> None:
        arrays, count = [], 0
        if runs:
            for jobs in self._slurm.submit(runs, waits):
                self._books.note_jobs(jobs)
                self._jobs |= jobs
                self._queued = (self._queued or set()) | set(jobs.values())
                arrays.append(next(iter(jobs.values())).partition("_")[0])
                count += len(jobs)
            print(f"submitted {count} runs as job {', '.join(arrays)}", flush=True)

    def stop(self) -> None:
        """Jobs go on without this process; `cancel` ends them."""

    def alive(self) -> bool:
        return False
