"""Starts workers, watches the runs, and reports how they ended."""

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from experiment.lock import lock_holder, output_lock
from tools.report.costs import clock
from tools.sweep.books import Books
from tools.sweep.child import LISTEN, STOPPED
from tools.sweep.local import LocalWorkers
from tools.sweep.protocols import Run
from tools.sweep.slurm import SlurmJobs, queue
from tools.sweep.status import DONE, FAILED, RUNNING, failures, look, name, table
from tools.sweep.worker import Worker

HEARTBEAT = 10.0  # seconds without a line after which one says how far it is; more as time goes on
STRIKES = 3  # how often workers may die in a row without having begun anything


class Place(Protocol):
    """Where runs are computed."""

    goes_on: bool  # when this process ends

    def note(self) -> None:
        """Look at the workers; called before the runs are looked at."""

    def keep_going(self, todo: Mapping[str, Run]) -> None:
        """Have the runs computed that are left. OSError if that cannot be."""

    def stop(self) -> None:
        """Have the runs save and end."""

    def alive(self) -> bool:
        """Whether any worker is there."""


class Here:
    """This machine."""

    goes_on = False

    def __init__(self, books: Books, workers: LocalWorkers, folders: Sequence[str]) -> None:
        self._books, self._workers, self._folders = books, workers, folders
        self._dead, self._strikes, self._begun = 0, 0, -1

    def note(self) -> None:
        self._dead = self._workers.dead()

    def keep_going(self, todo: Mapping[str, Run]) -> None:
        if not self._dead:
            return
        begun = sum(self._books.state(folder).attempts for folder in self._folders)
        self._strikes = self._strikes + 1 if begun == self._begun else 0
        self._begun = begun
        if self._strikes >= STRIKES:
            words = "\n".join(self._workers.words())
            raise OSError(f"the workers die before they begin anything; the last said:\n{words}")
        self._workers.restart()

    def stop(self) -> None:
        self._workers.stop()

    def alive(self) -> bool:
        return self._workers.dead() < len(self._workers)


class Cluster:
    """Slurm."""

    goes_on = True

    def __init__(self, books: Books, jobs: SlurmJobs, retries: int) -> None:
        self._books, self._slurm, self._retries = books, jobs, retries
        self._jobs = books.jobs()
        self._queued: set[str] = set()  # jobs, when it was looked at last
        self._before: set[str] = set()  # .. and before that
        self._submitted: dict[str, int] = {}  # how often, by folder

    def note(self) -> None:
        answer = queue()
        if answer is not None:  # else: as it was
            self._before, self._queued = self._queued or set(answer), set(answer)

    def keep_going(self, todo: Mapping[str, Run]) -> None:
        here = self._queued | self._before  # a job that left has had time to say how it ended
        new = [
            run
            for folder, run in todo.items()
            if self._jobs.get(folder) not in here and self._books.holder(folder) is None
        ]
        if not new:
            return
        for run in new:
            if run.after not in todo:  # else it may have gone because its training failed
                self._count(run.folder)
        first = [run for run in new if run.after not in todo]
        self._submit(first, {})
        waits = {run.folder: self._jobs.get(run.after or "") for run in new if run.after in todo}
        waits = {folder: job for folder, job in waits.items() if job in self._queued}
        self._submit([run for run in new if run.folder in waits], waits)

    def _count(self, folder: str) -> None:
        self._submitted[folder] = times = self._submitted.get(folder, 0) + 1
        if times > self._retries + 1:
            state = self._books.state(folder)
            state.gave_up, state.why = True, f"its Slurm job {self._jobs[folder]} ended without it"
            self._books.write_state(folder, state)

    def _submit(self, runs: Sequence[Run], waits: Mapping[str, str]) -> None:
        runs = [run for run in runs if not self._books.state(run.folder).gave_up]
        if not runs:
            return
        jobs = self._slurm.submit(runs, waits)
        self._books.note_jobs(jobs)
        self._jobs |= jobs
        self._queued |= set(jobs.values())
        arrays = sorted({job.partition("_")[0] for job in jobs.values()}, key=int)
        print(f"submitted {len(jobs)} runs as job {', '.join(arrays)}", flush=True)

    def stop(self) -> None:
        """Jobs go on without this process."""

    def alive(self) -> bool:
        return False


def watch(books: Books, runs: Sequence[Run], place: Place, every: float = 0.5) -> int:
    """Exit code: 0 when all runs are finished, 1 when some failed, 75 or 130 after a signal, and
    130 after `cancel`."""
    todo = {run.folder: run for run in runs if not books.is_finished(run.folder)}
    skipped, generation = len(runs) - len(todo), books.generation()
    print(f"{len(runs)} runs, {skipped} of them finished already", flush=True)
    start = beat = time.monotonic()
    with _listening() as came:
        while todo and not came and books.generation() == generation:
            begun = time.monotonic()
            place.note()
            for folder in _settled(books, todo):
                run = todo.pop(folder)
                print(f"[{len(runs) - len(todo)}/{len(runs)}] {_words(books, run)}", flush=True)
                beat = begun
            if todo:
                place.keep_going(todo)
            if begun - beat > max(HEARTBEAT, (begun - start) / 20):
                beat = begun
                print(_sign_of_life(books, todo, begun - start), flush=True)
            _sleep(max(every, 10 * (time.monotonic() - begun)), lambda: came or not todo)
        if todo:
            return _end(books, place, came, generation)
    return _report(books, runs)


def _settled(books: Books, todo: Mapping[str, Run]) -> list[str]:
    """Runs that are finished or have failed."""
    return [
        folder
        for folder, run in todo.items()
        if look(books, folder, run.after).state in (DONE, FAILED)
    ]


def _words(books: Books, run: Run) -> str:
    known = look(books, run.folder, run.after)
    if known.state == DONE:
        return f"{name(books, run.folder)}: done in {clock(books.seconds(run.folder) or 0)}"
    return f"{name(books, run.folder)}: FAILED, {known.words}"


def _sign_of_life(books: Books, todo: Iterable[str], seconds: float) -> str:
    """What runs, and how far some of it is."""
    running = [folder for folder in todo if look(books, folder).state == RUNNING]
    shown = [f"{name(books, folder)}{_last_epoch(books, folder)}" for folder in running[:4]]
    more = f"; and {len(running) - 4} more" if len(running) > 4 else ""
    return f"  {clock(seconds)}: {'; '.join(shown) or 'nothing'} running{more}"


def _last_epoch(books: Books, folder: str) -> str:
    lines = [line for line in books.end_of_log(folder, 50) if line.startswith("epoch [")]
    return f" {lines[-1].split(' time ')[0]}" if lines else ""


def _report(books: Books, runs: Sequence[Run]) -> int:
    folders = {run.folder: run.after for run in runs}
    failed = failures(books, folders)
    if not failed:
        print("all runs finished")
        return 0
    count = sum(look(books, *item).state == FAILED for item in folders.items())
    print(f"\n{table(books, folders)}\n")
    print(f"{failed}\n\n{count} failed; the same command tries them again", file=sys.stderr)
    return 1


def _end(books: Books, place: Place, came: list[int], generation: int) -> int:
    """What is said and returned when a signal or `cancel` came before all was done."""
    cancelled = books.generation() != generation
    if place.goes_on and not cancelled:
        print("the jobs go on: the same command watches them again, `cancel` stops them")
    else:
        place.stop()
        if place.alive():
            print("the runs save and end ...", flush=True)
        before = len(came)
        while place.alive() and len(came) == before:  # a further signal does not wait
            time.sleep(0.1)
        print(f"{'cancelled' if cancelled else 'stopped'}: the same command continues", flush=True)
    return 130 if cancelled or came[0] == signal.SIGINT else STOPPED


@contextmanager
def _listening() -> Iterator[list[int]]:
    """Note signals that end a sweep, instead of ending at once."""
    came: list[int] = []
    before = [signal.signal(number, lambda n, frame: came.append(n)) for number in LISTEN]
    try:
        yield came
    finally:
        for number, handler in zip(LISTEN, before, strict=True):
            signal.signal(number, handler)


def _sleep(seconds: float, enough: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not enough() and (rest := end - time.monotonic()) > 0:
        time.sleep(min(rest, 0.1))


@contextmanager
def owner(books: Books) -> Iterator[Path]:
    """A folder that is held while this process lives: local workers end with it."""
    drivers = books.root / "drivers"
    for left in drivers.glob("*"):
        if lock_holder(left) is None:  # it was killed
            shutil.rmtree(left, ignore_errors=True)
    place = drivers / f"{socket.gethostname()}-{os.getpid()}"
    try:
        with output_lock(place):
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def run_here(
    books: Books, runs: Sequence[Run], retries: int, envs: Sequence[dict[str, str]]
) -> int:
    """Compute the runs on this machine; exit code as of `watch`."""
    with owner(books) as held:
        worker = Worker(books.output, runs, books.generation(), retries, owner=held)
        folder = held / "submitit"
        workers = LocalWorkers(folder, worker, envs[: len(runs)])
        return watch(books, runs, Here(books, workers, [run.folder for run in runs]))


def run_on_slurm(
    books: Books, runs: Sequence[Run], retries: int, options: Mapping[str, object]
) -> int:
    """Submit the runs, and watch them; exit code as of `watch`."""
    worker = Worker(books.output, [], books.generation(), retries)
    jobs = SlurmJobs(books.root / "submitit", worker, options)
    return watch(books, runs, Cluster(books, jobs, retries), every=3.0)
