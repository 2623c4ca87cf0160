"""Starts workers, watches the runs, and reports how they ended."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.formats import clock
from run.lock import output_lock
from tools.sweep.books import Books
from tools.sweep.child import LISTEN, STOPPED
from tools.sweep.local import LocalWorkers
from tools.sweep.places import Cluster, Here, Place
from tools.sweep.protocols import Run
from tools.sweep.slurm import SlurmJobs
from tools.sweep.status import DONE, FAILED, RUNNING, failures, look, name, table
from tools.sweep.worker import Worker

HEARTBEAT = 10.0  # seconds without a line after which one says how far it is; more as time goes on
ENDING = 10.0  # seconds that workers are waited for, once nothing is left to do


def watch(books: Books, runs: Sequence[Run], place: Place, came: Sequence[int] = ()) -> int:
    """Exit code: 0 when all runs are finished, 1 when some failed, 75 or 130 after a signal, and
    130 after `cancel`. `came`: the signals, to which others are added meanwhile."""
    todo = {run.folder: run for run in runs if not books.is_finished(run.folder, run.after)}
    skipped, generation = len(runs) - len(todo), books.generation()
    say(f"{len(runs)} runs, {skipped} of them finished already")
    start = beat = time.monotonic()
    while todo and not came and books.generation() == generation:
        begun = time.monotonic()
        place.note()
        for folder in _settled(books, todo):
            run = todo.pop(folder)
            say(f"[{len(runs) - len(todo)}/{len(runs)}] {_words(books, run)}")
            beat = begun
        if todo:
            place.keep_going(todo)
        if begun - beat > max(HEARTBEAT, (begun - start) / 20):
            beat = begun
            say(_sign_of_life(books, todo, begun - start))
        took = time.monotonic() - begun
        pause = max(10 * took, min(place.longest, max(0.5, (begun - start) / 20)))
        _sleep(pause, lambda: came or not todo)
    if todo:
        return _end(books, place, came, generation)
    return _report(books, runs)


def say(text: str) -> None:
    """Print a line; the work goes on if nobody reads it any more."""
    try:
        print(text, flush=True)
    except OSError:  # a pipe or a terminal that is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
        say("all runs finished")
        return 0
    count = sum(look(books, *item).state == FAILED for item in folders.items())
    say(f"\n{table(books, folders)}\n")
    print(f"{failed}\n\n{count} failed; the same command tries them again", file=sys.stderr)
    return 1


def _end(books: Books, place: Place, came: Sequence[int], generation: int) -> int:
    """What is said and returned when a signal or `cancel` came before all was done."""
    cancelled = books.generation() != generation
    if place.goes_on and not cancelled:
        say("the jobs go on: the same command watches them again, `cancel` stops them")
    else:
        if place.alive():
            say("the runs save and end ...")
        before = len(came)
        while place.alive() and len(came) == before:  # a further signal does not wait
            place.stop()  # again: one that comes while a process starts may be lost
            _sleep(1.0, lambda: not place.alive() or len(came) > before)
        say(f"{'cancelled' if cancelled else 'stopped'}: the same command continues")
    return 130 if cancelled or came[0] == signal.SIGINT else STOPPED


@contextmanager
def _listening() -> Iterator[list[int]]:
    """Note signals that end a sweep, instead of ending at once."""
    came: list[int] = []
    numbers = [n for n in LISTEN if signal.getsignal(n) is not signal.SIG_IGN]  # as under nohup
    before = [signal.signal(number, lambda n, frame: came.append(n)) for number in numbers]
    try:
        yield came
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _sleep(seconds: float, enough: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not enough() and (rest := end - time.monotonic()) > 0:
        time.sleep(min(rest, 0.1))


@contextmanager
def owner() -> Iterator[Path]:
    """A folder that is held while this process lives: local workers end with it."""
    place = tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True)
    with place as folder, output_lock(Path(folder)):
        yield Path(folder)


def run_here(
    books: Books,
    runs: Sequence[Run],
    retries: int,
    envs: Sequence[Mapping[str, str | None]],
) -> int:
    """Compute the runs on this machine; exit code as of `watch`."""
    with _listening() as came, owner() as held:
        worker = Worker(books.output, runs, books.generation(), retries, owner=held)
        workers = LocalWorkers(held / "submitit", worker, envs[: len(runs)])
        code = watch(books, runs, Here(workers), came)
        _sleep(ENDING, lambda: came or not workers.alive())  # a worker ends after its last run has
        return code


def run_on_slurm(books: Books, runs: Sequence[Run], retries: int, jobs: SlurmJobs) -> int:
    """Submit the runs, and watch them; exit code as of `watch`."""
    with _listening() as came:
        return watch(books, runs, Cluster(books, jobs, retries), came)
