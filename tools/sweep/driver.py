"""Watches the runs of a sweep until all are finished or failed, and reports."""

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from common.formats import clock
from run.lock import output_lock
from tools.sweep.executors import Executor, LocalExecutor, SlurmExecutor
from tools.sweep.process import INTERRUPTED, STOPPED, handle_signals
from tools.sweep.protocols import Run, RunPath
from tools.sweep.slurm import Submitter
from tools.sweep.status import failures, status_table
from tools.sweep.store import DONE, FAILED, RUNNING, RunStore
from tools.sweep.worker import Worker

HEARTBEAT = 10.0  # seconds without a line after which one says how far it is; more as time goes on
ENDING = 10.0  # seconds that workers are waited for, once nothing is left to do


def run_here(
    store: RunStore, runs: Sequence[Run], retries: int, envs: Sequence[Mapping[str, str]]
) -> int:
    """Compute the runs on this machine; exit code as of `watch`.

    The temporary directory is locked while this process lives: workers end with it.
    """
    place = tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True)
    received: list[int] = []
    with place as folder, output_lock(Path(folder)), handle_signals(received.append):
        owner = Path(folder)
        worker = Worker(store.output, runs, store.generation(), retries, owner=owner)
        executor = LocalExecutor(owner, worker, envs[: len(runs)])
        code = watch(store, runs, executor, received)
        _sleep(ENDING, lambda: received or not executor.is_alive())  # they end after their runs
        return code


def run_on_slurm(store: RunStore, runs: Sequence[Run], retries: int, jobs: Submitter) -> int:
    """Submit the runs, and watch them; exit code as of `watch`."""
    received: list[int] = []
    with handle_signals(received.append):
        return watch(store, runs, SlurmExecutor(store, jobs, retries), received)


def watch(
    store: RunStore, runs: Sequence[Run], executor: Executor, received: Sequence[int] = ()
) -> int:
    """Exit code: 0 when all runs are finished, 1 when some failed, 75 or 130 after a signal, and
    130 after `cancel`. `received`: the signals so far, to which handlers append."""
    todo = {run.directory: run for run in runs if not store.is_finished(run.directory, run.after)}
    skipped, generation = len(runs) - len(todo), store.generation()
    print(f"{len(runs)} runs, {skipped} of them finished already", flush=True)
    start = beat = time.monotonic()
    while todo and not received and store.generation() == generation:
        begun = time.monotonic()
        executor.poll()
        for text in _take_ended(store, todo):
            print(f"[{len(runs) - len(todo)}/{len(runs)}] {text}", flush=True)
            beat = begun
        if todo:
            executor.submit_pending(todo)
        if begun - beat > max(HEARTBEAT, (begun - start) / 20):
            beat = begun
            print(f"  {clock(begun - start)}: {_progress(store, todo)}", flush=True)
        took = time.monotonic() - begun
        pause = max(10 * took, min(executor.max_poll_s, max(0.5, (begun - start) / 20)))
        _sleep(pause, lambda: received or not todo)
    if todo:
        return _stop(executor, received, store.generation() != generation)
    return _report(store, runs)


def _take_ended(store: RunStore, todo: dict[str, Run]) -> Iterable[str]:
    """Take runs that are finished or failed out of `todo`; says how each ended."""
    for directory, run in list(todo.items()):
        status = store.status(directory, run.after)
        if status.name not in (DONE, FAILED):
            continue
        del todo[directory]
        took = f"done in {clock(store.seconds(directory) or 0)}"
        how = took if status.name == DONE else f"FAILED, {status.why}"
        yield f"{RunPath.parse(directory).words()}: {how}"


def _progress(store: RunStore, todo: Iterable[str]) -> str:
    """The running runs, each with its last epoch."""
    running = [directory for directory in todo if store.status(directory).name == RUNNING]
    shown = []
    for directory in running[:4]:
        epochs = [s for s in store.end_of_log(directory, 50) if s.startswith("epoch [")]
        epoch = f" {epochs[-1].split(' time ')[0]}" if epochs else ""
        shown.append(f"{RunPath.parse(directory).words()}{epoch}")
    more = f"; and {len(running) - 4} more" if len(running) > 4 else ""
    return f"{'; '.join(shown) or 'nothing'} running{more}"


def _report(store: RunStore, runs: Sequence[Run]) -> int:
    directories = {run.directory: run.after for run in runs}
    failed = failures(store, directories)
    if not failed:
        print("all runs finished")
        return 0
    print(f"\n{status_table(store, directories)}\n", flush=True)
    text = "\n\n".join(failed)
    print(f"{text}\n\n{len(failed)} failed; the same command tries them again", file=sys.stderr)
    return 1


def _stop(executor: Executor, received: Sequence[int], cancelled: bool) -> int:
    """The end of a sweep that a signal or `cancel` stopped before all was done."""
    if executor.detached and not cancelled:
        print("the jobs go on: the same command watches them again, `cancel` stops them")
    else:
        if executor.is_alive():
            print("the runs save and end ...", flush=True)
        before = len(received)
        while executor.is_alive() and len(received) == before:  # a further signal does not wait
            executor.stop()  # again: one that comes while a process starts may be lost
            _sleep(1.0, lambda: not executor.is_alive() or len(received) > before)
        print(f"{'cancelled' if cancelled else 'stopped'}: the same command continues")
    return INTERRUPTED if cancelled or received[0] == signal.SIGINT else STOPPED


def _sleep(seconds: float, enough: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not enough() and (rest := end - time.monotonic()) > 0:
        time.sleep(min(rest, 0.1))
