"""Executes pending runs, then runs that depended on them. Several workers may share a list."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from run.lock import lock_holder
from tools.sweep.process import INTERRUPTED, STOPPED, Child, handle_signals, train_command
from tools.sweep.protocols import Run
from tools.sweep.store import RunLock, RunState, RunStore

POLL = 2.0  # seconds between two looks at what other workers do
REFUSED = 2  # exit code of train.py for wrong input, and for a disk that fails
NOT_STARTED = 127  # as in shells
LINGER = 3600.0  # seconds that a Slurm job waits for the end that a SIGTERM announced
REASONS = {
    0: "it ended without a result",
    2: "refused",
    3: "a number became infinite or NaN",
    STOPPED: "stopped from outside",
    INTERRUPTED: "interrupted",
    NOT_STARTED: "could not be started",
    137: "killed, perhaps for memory",
}


class RunsFailed(RuntimeError):
    """Some runs of a worker have no result, so its Slurm job has failed."""


@dataclass
class Worker:
    """Computes the runs that are neither finished nor computed by other workers.

    A callable for submitit. On Slurm a signal that announces the end of the time or a preemption
    lets the run save, and puts the job back into the queue.
    """

    output: Path
    runs: Sequence[Run]
    generation: int  # of the run store; the worker stops when it changes
    retries: int = 1
    env: Mapping[str, str] = field(default_factory=dict)  # more variables for the runs
    owner: Path | None = None  # a directory locked by the sweep; the worker stops without it

    def __call__(self) -> None:
        """Raises RunsFailed if any run is without a result in the end."""
        self._store, self._child = RunStore(self.output), Child()
        with handle_signals(self._child.on_signal) as before:
            self._work()
            received = self._child.signal
            if received is not None and _on_slurm() and self._unfinished():
                _leave_slurm(received, before)
        if received is None and not self._is_over() and (left := self._unfinished()):
            raise RunsFailed(f"{len(left)} of {len(self.runs)} without a result: {left[:5]}")

    def checkpoint(self) -> Any:
        """What submitit requeues: the same worker, since runs continue by themselves."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(replace(self))

    def _unfinished(self) -> list[str]:
        is_finished = self._store.is_finished
        return [run.directory for run in self.runs if not is_finished(run.directory, run.after)]

    def _is_over(self) -> bool:
        """Whether a signal came, somebody cancelled, or the sweep is gone."""
        if self._child.signal is not None or self._store.generation() != self.generation:
            return True
        return self.owner is not None and lock_holder(self.owner) is None

    def _work(self) -> None:
        pending = list(self.runs)
        while pending and not self._is_over():
            for run in pending:
                if self._settle(run):
                    pending.remove(run)  # and look from the start: an earlier one may have waited
                    break
                if self._child.signal is not None:
                    break
            else:
                time.sleep(POLL)

    def _settle(self, run: Run) -> bool:
        """Compute a run if it is free; whether nothing is left to do for it."""
        store = self._store
        if store.is_finished(run.directory, run.after) or store.state(run.directory).gave_up:
            return True
        if run.after and not store.is_finished(run.after):
            return not self._may_finish(run.after)
        with store.claim(run.directory) as lock:
            if lock is None:
                return self._is_anothers(run)
            return store.is_finished(run.directory) or self._compute(run, lock)

    def _may_finish(self, directory: str) -> bool:
        """Whether a training run that a test waits for may still finish."""
        if self._store.holder(directory) is not None:
            return True
        ours = any(run.directory == directory for run in self.runs)
        return ours and not self._store.state(directory).gave_up

    def _is_anothers(self, run: Run) -> bool:
        """Whether another Slurm job computes a run: this one need not keep its devices waiting."""
        job, _ = _slurm_job()
        return job != "" and self._store.state(run.directory).job != job

    def _compute(self, run: Run, lock: RunLock) -> bool:
        """Attempt a run until it is finished or given up; False if it was stopped."""
        while not self._is_over():
            state = self._store.begin(run.directory, *_slurm_job())
            if state.attempts > self.retries + 1:
                return self._give_up(run, state, "its worker was killed each time")
            code = state.code = self._attempt(run, lock)
            state.ended = time.time()
            if self._store.is_finished(run.directory):
                self._store.write_state(run.directory, state)
                return True
            if self._was_stopped(code) or self._is_taken(run, code):
                state.attempts -= 1
                self._store.write_state(run.directory, state)
                return False
            if state.attempts > self.retries or self._is_refused(run, code):
                return self._give_up(run, state, reason(code))
            self._store.write_state(run.directory, state)
        return False

    def _attempt(self, run: Run, lock: RunLock) -> int:
        with open(self._store.log(run.directory), "ab") as output:
            try:
                return self._child.run(
                    train_command(run.arguments),
                    env=os.environ | self.env,
                    output=output,
                    should_stop=self._is_over,
                    poll_s=POLL,
                    lock=lock.handle,
                )
            except OSError as error:
                output.write(f"{error}\n".encode())
                return NOT_STARTED

    def _was_stopped(self, code: int) -> bool:
        """Whether a run ended because this worker is to end; the run may get the signal first."""
        if code in (STOPPED, INTERRUPTED) and not self._is_over():
            time.sleep(1)
        return self._is_over()

    def _is_taken(self, run: Run, code: int) -> bool:
        """Whether train.py was refused because somebody else runs it in this directory."""
        return code == REFUSED and lock_holder(self.output / run.directory) is not None

    def _is_refused(self, run: Run, code: int) -> bool:
        """Whether train.py would refuse again: it leaves a log where it had begun to work."""
        return code == REFUSED and not (self.output / run.directory / "log.txt").exists()

    def _give_up(self, run: Run, state: RunState, why: str) -> bool:
        state.gave_up, state.why = True, why
        state.ended = state.ended or time.time()
        self._store.write_state(run.directory, state)
        return True


def reason(code: int) -> str:
    """Why a run failed, from its exit code."""
    if code < 0:
        known = -code in signal.Signals.__members__.values()
        return f"killed by {signal.Signals(-code).name if known else f'signal {-code}'}"
    return REASONS.get(code, f"exit code {code}")


def _on_slurm() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def _slurm_job() -> tuple[str, int]:
    """The Slurm job, '' elsewhere, and how often it was requeued."""
    if not _on_slurm():
        return "", 0
    return os.environ.get("SLURM_JOB_ID", ""), int(os.environ.get("SLURM_RESTART_COUNT", 0))


def _leave_slurm(number: int, submitit: Mapping[int, Any]) -> None:
    """End a Slurm job whose run has saved, so that it is requeued if it is to be.

    SIGUSR2 announces the end of the time or a preemption: submitit's handler requeues the job.
    SIGTERM comes before a job is taken away, preempted or cancelled, and Slurm requeues it or
    not; a job that ended by itself meanwhile would count as done.
    """
    if number == signal.SIGTERM:
        time.sleep(LINGER)
    elif number in (signal.SIGUSR1, signal.SIGUSR2) and callable(submitit[number]):
        submitit[number](number, None)


def run_in_foreground(output: Path, runs: Sequence[Run]) -> int:
    """Run what is not finished in this terminal, for the scripts of a single method.

    The exit code is that of the first run that fails, else 0; after a signal, which the run gets
    first, 75, or 130 for Ctrl-C.
    """
    store, child = RunStore(output), Child()
    with handle_signals(child.on_signal):
        for run in runs:
            if store.is_finished(run.directory):
                print(f"finished already: {output / run.directory}", flush=True)
                continue
            code = child.run(train_command(run.arguments)) if child.signal is None else 0
            if child.signal == signal.SIGINT:
                return code or INTERRUPTED
            if child.signal is not None:
                return STOPPED
            if code:
                return code if code > 0 else 128 - code
    return 0
