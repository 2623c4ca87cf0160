"""The main job on drawn pictures: train on base classes, test on base and on new ones.

    python -m tools.demo [METHOD ...]

Draws the data set, runs `scripts/<method>/base2new_{train,test}.sh` for three seeds, as many
runs at once as there are cores, and prints the table. No download, no GPU.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from experiment.command import Parser, guarded

REPO = Path(__file__).parents[1]
DATA = REPO / "data" / "toy"
OUTPUT = REPO / "output" / "demo"
DATASET = "colored_shapes"
METHODS = ("ZeroshotCLIP", "MMRL", "MMRLPlus")
SEEDS = (1, 2, 3)
HEARTBEAT = 10  # seconds between two signs of life


class Job(NamedTuple):
    """One method and seed: train and test on base, then test on new."""

    method: str
    scripts: Path
    seed: int

    def __str__(self) -> str:
        return f"{self.method} seed {self.seed}"

    def directory(self, part: str) -> Path:
        tail = Path(DATASET, "shots_16", self.method, "small", f"seed{self.seed}")
        return OUTPUT / "base2new" / part / tail


def script_folders() -> dict[str, Path]:
    """Which folder of scripts/ runs which trainer."""
    folders = {}
    for script in sorted((REPO / "scripts").glob("*/base2new_train.sh")):
        if call := re.search(r"^base2new_train (\w+) ", script.read_text(), re.MULTILINE):
            folders[call[1]] = script.parent
    return folders


def run_job(job: Job, threads: int) -> str:
    """Run both scripts; their output stands in the runs' log.txt. RuntimeError if one fails."""
    env = {
        **os.environ,
        "DATA": str(DATA),
        "OUTPUT": str(OUTPUT),
        "CFG": "small",
        "PYTHON": sys.executable,
        "OMP_NUM_THREADS": str(threads),
    }
    start = time.perf_counter()
    for script in ("base2new_train.sh", "base2new_test.sh"):
        command = ["bash", str(job.scripts / script), DATASET, str(job.seed)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{script} failed for {job}:\n{done.stderr[-3000:]}")
    return f"{job}: done in {time.perf_counter() - start:.0f} s"


def last_epoch_line(job: Job) -> str:
    """How far a running job is, from its log."""
    logs = sorted(job.directory("train_base").glob("log.txt*"), key=os.path.getmtime)
    lines = logs[-1].read_text(errors="replace").splitlines() if logs else []
    epochs = [line for line in lines if line.startswith("epoch [")]
    return epochs[-1].split(" time ")[0] if epochs else "starting or testing"


def run_all(jobs: list[Job]) -> int:
    """Run the jobs, as many at once as there are cores; the number of failures."""
    cores = os.cpu_count() or 1
    workers = min(cores, len(jobs))
    failures, finished, start = 0, 0, time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        running: dict[Future, Job] = {
            pool.submit(run_job, job, cores // workers): job for job in jobs
        }
        while running:
            done, _ = wait(running, timeout=HEARTBEAT, return_when=FIRST_COMPLETED)
            for future in done:
                running.pop(future)
                finished += 1
                error = future.exception()
                failures += error is not None
                print(f"[{finished}/{len(jobs)}] {error or future.result()}", flush=True)
            if not done:
                busy = [
                    f"{job} {last_epoch_line(job)}" for f, job in running.items() if f.running()
                ]
                seconds = time.perf_counter() - start
                print(f"  {seconds:3.0f} s: {'; '.join(busy)}", flush=True)
    return failures


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m tools.demo", description="The main job on drawn pictures.")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"default: {METHODS}")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args.methods or METHODS), args)


def run(methods: Sequence[str]) -> int:
    folders = script_folders()
    if unknown := [m for m in methods if m not in folders]:
        raise ValueError(f"no method {unknown}; allowed: {', '.join(folders)}")

    from tools.toy.dataset import write_dataset

    print(f"Drawing the data set in {DATA} ...", flush=True)
    write_dataset(DATA)
    jobs = [Job(method, folders[method], seed) for method in methods for seed in SEEDS]
    print(f"{len(jobs)} jobs; logs in {OUTPUT}; finished ones are not run again", flush=True)
    failures = run_all(jobs)

    import parse_test_res

    parse_test_res.main([str(OUTPUT)])
    print(f"\nEverything is in {OUTPUT}; delete that folder to run the demo afresh.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
