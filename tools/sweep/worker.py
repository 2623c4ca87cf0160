"""Executes runs one after another. Any number of workers may share one list of runs."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from run.lock import lock_holder
from tools.sweep.books import Books, Claim, State
from tools.sweep.child import INTERRUPTED, STOPPED, Children, command
from tools.sweep.protocols import Run

POLL = 2.0  # seconds between two looks at what others do
REFUSED = 2  # train.py's exit code for bad input, and for a disk that fails it
NOT_STARTED = 127  # as shells say it
LINGER = 3600.0  # seconds that a Slurm job waits for the end that a SIGTERM announced


class RunsFailed(RuntimeError):
    """Some runs of a worker have no result; the job that it is has failed."""


@dataclass
class Worker:
    """Computes what is neither finished nor computed by others, and what waited for that.

    Called by submitit, in a process of its own. On Slurm a signal that announces the end of the
    time or a preemption lets the run save, and puts the job back into the queue.
    """

    output: Path
    runs: Sequence[Run]
    generation: int  # of the books; when it is over, the worker stops
    retries: int = 1
    env: Mapping[str, str | None] = field(default_factory=dict)  # for the runs; None: not set
    owner: Path | None = None  # a folder that who started the worker holds; it stops without

    def __call__(self) -> int:
        """The number of runs it brought to an end. Raises RunsFailed if any is without a result."""
        self._books, self._children = Books(self.output), Children()
        with self._children.listening() as submitit:
            computed = self._work()
            number = self._children.signal
            if number is not None and _on_slurm() and self._unfinished():
                _leave_slurm(number, submitit)
        if number is None and not self._is_over() and (left := self._unfinished()):
            raise RunsFailed(f"{len(left)} of {len(self.runs)} without a result: {left[:5]}")
        return computed

    def checkpoint(self):
        """What submitit puts back into the queue: the same, since runs continue by themselves."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(replace(self))

    def _unfinished(self) -> list[str]:
        books = self._books
        return [run.folder for run in self.runs if not books.is_finished(run.folder, run.after)]

    def _work(self) -> int:
        todo, computed = list(self.runs), 0
        while todo and not self._is_over():
            for index, run in enumerate(todo):
                settled, ran = self._try(run)
                computed += ran
                if settled:
                    del todo[index]
                    break
                if self._is_stopped():
                    break
            else:
                time.sleep(POLL)
        return computed

    def _is_stopped(self) -> bool:
        return self._children.signal is not None

    def _is_over(self) -> bool:
        """Whether a signal came, somebody cancelled, or who started this is gone."""
        if self._is_stopped() or self._books.generation() != self.generation:
            return True
        return self.owner is not None and lock_holder(self.owner) is None

    def _try(self, run: Run) -> tuple[bool, bool]:
        """(whether nothing is left to do for a run, whether this worker did it)."""
        books = self._books
        if books.is_finished(run.folder, run.after) or books.state(run.folder).gave_up:
            return True, False
        if run.after and not books.is_finished(run.after):
            return not self._may_come(run.after), False
        with books.claim(run.folder) as claim:
            if claim is None:
                return self._is_anothers(run), False
            if books.is_finished(run.folder):  # meanwhile
                return True, False
            return (self._compute(run, claim),) * 2

    def _is_anothers(self, run: Run) -> bool:
        """Whether another Slurm job computes a run: this one need not keep its devices waiting."""
        job, _ = _slurm_job()
        return job != "" and self._books.state(run.folder).job != job

    def _may_come(self, folder: str) -> bool:
        """Whether a run that another waits for may still end well."""
        if self._books.holder(folder) is not None:
            return True
        ours = any(run.folder == folder for run in self.runs)
        return ours and not self._books.state(folder).gave_up

    def _compute(self, run: Run, claim: Claim) -> bool:
        """Attempts until it is finished or given up; False when it was stopped."""
        job, restarts = _slurm_job()
        while not self._is_over():
            state = self._books.begin(run.folder, job, restarts)
            if state.attempts > self.retries + 1:  # begun, and killed with the worker
                self._give_up(run, state, "its worker was killed each time")
                return True
            state.code = self._attempt(run, claim)
            state.ended = time.time()
            if self._books.is_finished(run.folder):
                self._books.write_state(run.folder, state)
                return True
            if self._was_stopped(state.code) or self._is_taken(run, state.code):
                state.attempts -= 1
                self._books.write_state(run.folder, state)
                return False
            if state.attempts > self.retries or self._is_refused(run, state.code):
                self._give_up(run, state, _why(state.code))
                return True
            self._books.write_state(run.folder, state)
        return False

    def _is_taken(self, run: Run, code: int) -> bool:
        """Whether train.py was refused because somebody else runs it in this folder."""
        return code == REFUSED and lock_holder(self.output / run.folder) is not None

    def _is_refused(self, run: Run, code: int) -> bool:
        """Whether train.py would refuse again: it leaves a log where it had begun to work."""
        return code == REFUSED and not (self.output / run.folder / "log.txt").exists()

    def _attempt(self, run: Run, claim: Claim) -> int:
        both = {**os.environ, **self.env}
        env = {name: value for name, value in both.items() if value is not None}
        options = {"env": env, "look": self._is_over, "every": POLL}
        with open(self._books.log(run.folder), "ab") as output, claim.copy() as keep:
            try:
                return self._children.call(
                    command(run.arguments), output=output, keep=keep, **options
                )
            except OSError as error:
                output.write(f"{error}\n".encode())
                return NOT_STARTED

    def _was_stopped(self, code: int) -> bool:
        """Whether a run ended because this worker is to end. Both may get the signal, the run
        first."""
        if code in (STOPPED, INTERRUPTED) and not self._is_over():
            time.sleep(1)
        return self._is_over()

    def _give_up(self, run: Run, state: State, why: str) -> None:
        state.gave_up, state.why = True, why
        state.ended = state.ended or time.time()
        self._books.write_state(run.folder, state)


def _why(code: int) -> str:
    """An exit code of train.py in words."""
    if code < 0:
        known = -code in signal.Signals.__members__.values()
        return f"killed by {signal.Signals(-code).name if known else f'signal {-code}'}"
    words = {
        0: "it ended without a result",
        2: "refused",
        3: "a number became infinite or NaN",
        STOPPED: "stopped from outside",
        INTERRUPTED: "interrupted",
        NOT_STARTED: "could not be started",
        137: "killed, perhaps for memory",
    }
    return words.get(code, f"exit code {code}")


def _on_slurm() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def _slurm_job() -> tuple[str, int]:
    """Slurm's job, '' elsewhere, and how often it was put back into the queue."""
    if not _on_slurm():
        return "", 0
    return os.environ.get("SLURM_JOB_ID", ""), int(os.environ.get("SLURM_RESTART_COUNT", 0))


def _leave_slurm(number: int, submitit: Mapping[int, object]) -> None:
    """End a Slurm job whose run has saved, so that it comes back if it is to come back.

    SIGUSR2 announces the end of the time or of a preemption: submitit puts the job back into the
    queue. SIGTERM comes before a job is taken away, for a preemption or because it was cancelled,
    and Slurm puts it back or not; a job that ends by itself meanwhile would count as done.
    """
    handler = submitit.get(number)
    if number in (signal.SIGUSR1, signal.SIGUSR2) and callable(handler):
        handler(number, None)
    elif number == signal.SIGTERM:
        time.sleep(LINGER)
