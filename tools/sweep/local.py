"""Workers on this machine: one per visible GPU, or as many as there shall be."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tools.sweep.protocols import REPO
from tools.sweep.worker import Worker

A_YEAR = 365 * 24 * 60  # minutes; submitit ends local jobs after two, unless it is told more
AT_ONCE = 10.0  # seconds; a worker that lived no longer could not work
STRIKES = 3  # how often that may happen to one


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, without starting CUDA in this process."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name.strip() for name in said.split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "-L"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return []
    listed = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(listed))]


def environments(workers: int | None, cpus: int | None) -> list[dict[str, str | None]]:
    """Of each worker's runs: its GPU, and its share of the cores. None: not set.

    Without `workers` there is one per visible GPU, or a single one. More workers than GPUs share
    them in turn. Where no GPU is found runs see what this process sees.
    """
    gpus = visible_gpus()
    count = workers or len(gpus) or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = cpus or max(1, (cores or 1) // count)
    own = {"OMP_NUM_THREADS": str(threads)} if cpus or "OMP_NUM_THREADS" not in os.environ else {}
    # submitit sets this variable, so it is always said
    devices = gpus or [os.environ.get("CUDA_VISIBLE_DEVICES")]
    return [own | {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]} for index in range(count)]


@dataclass
class _Slot:
    """The place of one worker."""

    worker: Worker
    job: Any = None  # submitit's
    started: float = 0.0
    strikes: int = 0

    def is_dead(self) -> bool:
        return self.job is None or self.job.done()


class LocalWorkers:
    """Starts processes through submitit, and starts those again that were killed."""

    def __init__(
        self, folder: Path, worker: Worker, envs: Sequence[Mapping[str, str | None]]
    ) -> None:
        """`folder`: for submitit's files; `envs`: one per process."""
        from submitit import LocalExecutor

        self._executor = LocalExecutor(folder)
        self._executor.update_parameters(timeout_min=A_YEAR, stderr_to_stdout=True)
        self._slots = [_Slot(replace(worker, env=env)) for env in envs]

    def alive(self) -> bool:
        """Whether any worker is there."""
        return not all(slot.is_dead() for slot in self._slots)

    def dead(self) -> list[int]:
        """Numbers of the workers that are not there: not started, ended or killed."""
        return [number for number, slot in enumerate(self._slots) if slot.is_dead()]

    def restart(self, numbers: Sequence[int]) -> None:
        """Start workers, but for those that cannot work.

        Raises OSError with the last words of one when none is there and none can.
        """
        for number in numbers:
            slot = self._slots[number]
            at_once = slot.job is not None and time.monotonic() - slot.started < AT_ONCE
            slot.strikes = slot.strikes + 1 if at_once else 0
            if slot.strikes < STRIKES:
                with _for_children():
                    slot.job = self._executor.submit(slot.worker)
                slot.started = time.monotonic()
        if not self.alive() and all(slot.strikes >= STRIKES for slot in self._slots):
            raise OSError(f"the workers die at once; the last said:\n{self._words()}")

    def stop(self) -> None:
        """Have the runs save, and the workers end. It does no harm to say so again."""
        for slot in self._slots:
            if not slot.is_dead():
                os.kill(int(slot.job.job_id), signal.SIGTERM)  # who watches the worker

    def _words(self, lines: int = 15) -> str:
        text = self._slots[-1].job.paths.stdout.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


@contextmanager
def _for_children() -> Iterator[None]:
    """The processes started meanwhile find this project, and leave Ctrl-C to their parent, which
    gets one that comes meanwhile afterwards."""
    with ctrl_c_later():
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPO), path)))
        try:
            yield
        finally:
            if path is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = path
            signal.signal(signal.SIGINT, before)


@contextmanager
def ctrl_c_later() -> Iterator[None]:
    """Let Ctrl-C wait, and processes that are started meanwhile not see it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
