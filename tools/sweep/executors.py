"""Where the runs of a sweep are computed: `LocalExecutor` and `SlurmExecutor`."""

import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tools.sweep import slurm
from tools.sweep.process import environment
from tools.sweep.protocols import Run
from tools.sweep.store import RunStore
from tools.sweep.worker import Worker

AT_ONCE = 10.0  # seconds; a worker that lived no longer could not work
STRIKES = 3  # how often that may happen to a worker
RETRY_SUBMIT = 60.0  # seconds until Slurm is asked again to take what it refused
WORK = "import pickle, sys; pickle.load(sys.stdin.buffer)()"  # of a local worker


class Executor(Protocol):
    """Has runs computed, by workers that share the run store."""

    detached: bool  # the workers go on when this process ends
    max_poll_s: float  # seconds between two polls

    def poll(self) -> None:
        """Look at the workers; called before the statuses of the runs are read."""

    def submit_pending(self, pending: Mapping[str, Run]) -> None:
        """Have the runs computed that are left, by directory. OSError if that cannot be."""

    def stop(self) -> None:
        """Have the runs save and end; may be called again."""

    def is_alive(self) -> bool:
        """Whether there is a worker that `stop` would end."""


def visible_gpus() -> list[str]:
    """Names of GPUs for CUDA_VISIBLE_DEVICES, without starting CUDA in this process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "-L"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return []
    count = sum(line.startswith("GPU ") for line in done.stdout.splitlines())
    return [str(index) for index in range(count)]


def environments(workers: int | None, cpus: int | None) -> list[dict[str, str]]:
    """Variables for the runs of each worker: its GPU, and its share of the cores.

    Without `workers` there is one per visible GPU, or a single one. More workers than GPUs share
    them in turn.
    """
    gpus = visible_gpus()
    count = workers or len(gpus) or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = cpus or max(1, (cores or 1) // count)
    own = {"OMP_NUM_THREADS": str(threads)} if cpus or "OMP_NUM_THREADS" not in os.environ else {}
    if not gpus:
        return [own] * count
    return [own | {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(count)]


@dataclass
class _Slot:
    """The place of one local worker."""

    work: Path  # a pickled Worker
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    strikes: int = 0

    @property
    def log(self) -> Path:
        return self.work.with_suffix(".log")

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        at_once = self.process is not None and time.monotonic() - self.started < AT_ONCE
        self.strikes = self.strikes + 1 if at_once else 0
        if self.strikes >= STRIKES:
            return
        with self.work.open("rb") as work, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WORK],
                env=environment() | {"SUBMITIT_EXECUTOR": "local"},  # also within a job of submitit
                stdin=work,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the sweep, which stops its workers
            )
        self.started = time.monotonic()


class LocalExecutor:
    """Worker processes on this machine; those that are killed are started again."""

    detached, max_poll_s = False, 0.5

    def __init__(self, directory: Path, worker: Worker, envs: Sequence[Mapping[str, str]]) -> None:
        """`directory`: for the workers' files; `envs`: variables of the runs of each worker."""
        self._slots = [_Slot(directory / f"worker-{number}") for number in range(len(envs))]
        for slot, env in zip(self._slots, envs, strict=True):
            slot.work.write_bytes(pickle.dumps(replace(worker, env=env)))
        self._dead = self._slots

    def poll(self) -> None:
        self._dead = [slot for slot in self._slots if not slot.is_alive()]

    def submit_pending(self, pending: Mapping[str, Run]) -> None:
        for slot in self._dead:
            slot.start()
        if not self.is_alive() and all(slot.strikes >= STRIKES for slot in self._slots):
            said = self._slots[-1].log.read_text(errors="replace").splitlines()[-15:]
            raise OSError("\n".join(["the workers die at once; the last said:", *said]))

    def stop(self) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.is_alive():
                slot.process.terminate()

    def is_alive(self) -> bool:
        return any(slot.is_alive() for slot in self._slots)


class SlurmExecutor:
    """Job arrays on Slurm, a task per run. Lost jobs are submitted again."""

    detached, max_poll_s = True, 30.0

    def __init__(self, store: RunStore, jobs: slurm.Submitter, retries: int) -> None:
        self._store, self._submitter, self._retries = store, jobs, retries
        self._jobs = store.jobs()
        self._queued: set[str] | None = None  # jobs at the last poll
        self._before: set[str] = set()  # .. and at the one before
        self._lost: dict[str, tuple[float, int]] = {}  # see _is_given_up
        self._not_before = 0.0

    def poll(self) -> None:
        states = slurm.queue()
        if states is not None:  # else: as it was
            self._before = set(states) if self._queued is None else self._queued
            self._queued = set(states)

    def submit_pending(self, pending: Mapping[str, Run]) -> None:
        if self._queued is None or time.monotonic() < self._not_before:
            return
        known = self._queued | self._before  # a job that left has had time to say how it ended
        new = [
            run
            for directory, run in pending.items()
            if self._jobs.get(directory) not in known and self._store.holder(directory) is None
        ]
        # Given up are only runs that wait for nothing; the others wait for those.
        first = [r for r in new if r.after not in pending and not self._is_given_up(r.directory)]
        with_tests = {run.after for run in new}
        first.sort(key=lambda run: run.directory not in with_tests)  # so that task numbers agree
        try:
            self._submit(first, {})
            waits = {run.directory: self._jobs.get(run.after or "") for run in new}
            queued = {run: job for run, job in waits.items() if job in self._queued}
            self._submit([r for r in new if r.after in pending and r.directory in queued], queued)
        except OSError as error:
            if not self._queued.intersection(self._jobs.values()):
                raise
            print(f"{error}\n.. what is in the queue goes on, the rest follows", flush=True)
            self._not_before = time.monotonic() + RETRY_SUBMIT

    def _is_given_up(self, directory: str) -> bool:
        """Whether the jobs of a run left again and again without having begun it."""
        state = self._store.state(directory)
        started, times = self._lost.get(directory, (state.started, -1))
        times = times + 1 if started == state.started else 0
        self._lost[directory] = (state.started, times)
        if times > self._retries and not state.gave_up:
            state.gave_up = True
            state.why = f"its Slurm job {self._jobs[directory]} ended without it"
            self._store.write_state(directory, state)
        return state.gave_up

    def _submit(self, runs: Sequence[Run], waits: Mapping[str, str]) -> None:
        if not runs:
            return
        arrays, count = [], 0
        for jobs in self._submitter.submit(runs, waits):
            self._store.add_jobs(jobs)
            self._jobs |= jobs
            self._queued = (self._queued or set()) | set(jobs.values())
            arrays.append(next(iter(jobs.values())).partition("_")[0])
            count += len(jobs)
        print(f"submitted {count} runs as job {', '.join(arrays)}", flush=True)

    def stop(self) -> None:
        """Nothing: jobs go on without this process; `cancel` ends them."""

    def is_alive(self) -> bool:
        return False
