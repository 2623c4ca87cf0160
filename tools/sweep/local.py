"""Workers on this machine: one per visible GPU, or as many as there shall be."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tools.sweep.protocols import REPO
from tools.sweep.worker import Worker

A_YEAR = 365 * 24 * 60  # minutes; submitit ends local jobs after two, unless it is told more


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, without starting CUDA in this process."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name.strip() for name in said.split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    listed = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(listed))]


def environments(workers: int | None, cpus: int | None) -> list[dict[str, str]]:
    """Of each worker's runs: its GPU, and its share of the cores.

    Without `workers` there is one per visible GPU, or a single one. More workers than GPUs share
    them in turn.
    """
    gpus = visible_gpus()
    count = workers or len(gpus) or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = cpus or max(1, (cores or 1) // count)
    own = {"OMP_NUM_THREADS": str(threads)} if cpus or "OMP_NUM_THREADS" not in os.environ else {}
    return [
        own | ({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {})
        for index in range(count)
    ]


class LocalWorkers:
    """Starts processes through submitit, and starts those again that were killed."""

    def __init__(self, folder: Path, worker: Worker, envs: Sequence[dict[str, str]]) -> None:
        """`folder`: for submitit's files; `envs`: one per process."""
        from submitit import LocalExecutor

        self._executor = LocalExecutor(folder, python=sys.executable)
        self._executor.update_parameters(timeout_min=A_YEAR, stderr_to_stdout=True)
        self._jobs = [(replace(worker, env=env), None) for env in envs]

    def __len__(self) -> int:
        return len(self._jobs)

    def dead(self) -> int:
        """How many workers are not there: not started, ended or killed."""
        return sum(job is None or job.done() for _, job in self._jobs)

    def restart(self) -> None:
        """Start the workers that are not there."""
        for index, (worker, job) in enumerate(self._jobs):
            if job is None or job.done():
                with _for_children():
                    self._jobs[index] = (worker, self._executor.submit(worker))

    def stop(self) -> None:
        """Have the runs save, and the workers end."""
        for _, job in self._jobs:
            if job is not None and not job.done():
                os.kill(int(job.job_id), signal.SIGTERM)  # the process that watches the worker

    def words(self, lines: int = 15) -> list[str]:
        """The last that a worker printed, if it has died of something."""
        for _, job in self._jobs:
            if job is not None and job.done() and job.paths.stdout.is_file():
                text = job.paths.stdout.read_text(errors="replace")
                return text.splitlines()[-lines:]
        return []


@contextmanager
def _for_children() -> Iterator[None]:
    """The processes started meanwhile find this project, and leave Ctrl-C to their parent."""
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
