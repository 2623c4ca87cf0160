"""What the whole benchmark costs: its steps and images, counted, times what was measured here.

    python -m tools.benchmark --sizes 10x4 50x4 100x8 1000x8 1000x32 --json steps.json
    python -m tools.benchmark.scaling steps.json [--devices 1 8 64] [--runs 10000]

Counts training steps and tested images of every run of the three protocols from the settings and
the sizes of the data sets; measures the start of a run (a process with torch, CLIP of ViT-B/16's
size from a file, a small data set) and the scheduler (sweeps of runs that do nothing, against the
same processes one after another); and prints hours per protocol, and days on several devices.
"""

import argparse
import heapq
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from tabulate import tabulate

from run.command import Parser, guarded, path, piped, positive, printing_stops_nothing
from tools.data.catalogue import catalogue
from tools.sweep.driver import run_here
from tools.sweep.executors import environments
from tools.sweep.protocols import PROTOCOLS, REPO, Request, Run, expand
from tools.sweep.store import RunStore

NOTHING = """#!/bin/sh
while [ "$1" != --output-dir ]; do shift; done
mkdir -p "$2"
echo '{"complete": true, "total": 1, "correct": 1, "accuracy": 100.0}' > "$2/results.json"
"""


class Work(NamedTuple):
    """Of one run; `classes` are those of its prompts."""

    steps: int
    batch: int
    classes: int
    images: int  # tested


@dataclass(frozen=True)
class Speed:
    """Of a device: seconds of a step = a + b * classes + c * batch, fitted; images per second."""

    step: np.ndarray  # a, b, c
    images: float
    start: float = 0.0  # seconds before a run's first step

    def seconds(self, work: Work) -> tuple[float, float, float]:
        """(training, testing, start) of a run."""
        step = float(self.step @ [1, work.classes, work.batch])
        return work.steps * step, work.images / self.images, self.start


def work_of(run: Run) -> Work:
    """Counted from a run's settings and its data set's size. KeyError for an unknown data set."""
    words = run.arguments
    said = {word: words[index + 1] for index, word in enumerate(words[:-1])}
    entry = catalogue()[Path(said["--dataset-config-file"]).stem]
    classes, _, _, test = entry.counts
    base = math.ceil(classes / 2)
    share = {"base": base, "new": classes - base}.get(said.get("DATASET.SUBSAMPLE_CLASSES", ""))
    asked = classes if share is None else share
    images = round(test * asked / classes)
    if "--eval-only" in words:
        return Work(0, 0, asked, images)
    cfg = yaml.safe_load(Path(said["--config-file"]).read_text(encoding="utf-8"))
    batch, epochs = cfg["DATALOADER"]["TRAIN_X"]["BATCH_SIZE"], cfg["OPTIM"]["MAX_EPOCH"]
    pictures = asked * int(said["DATASET.NUM_SHOTS"])
    return Work(epochs * max(1, pictures // batch), batch, asked, images)


def fitted(record: Iterable[dict], method: str, precision: str) -> Speed | None:
    """The speed that measurements of `tools.benchmark` tell; None from fewer than four sizes."""
    cases = [c for c in record if (c["method"], c["precision"]) == (method, precision)]
    if len(cases) < 4:
        return None
    sizes = np.array([[1, case["classes"], case["batch"]] for case in cases], dtype=float)
    steps = np.array([case["ours"]["step"] for case in cases])
    weights = 1 / steps  # relative errors count
    step, *_ = np.linalg.lstsq(sizes * weights[:, None], steps * weights, rcond=None)
    return Speed(step, statistics.median(case["ours"]["images"] for case in cases))


def makespan(runs: Sequence[Run], seconds: dict[str, float], devices: int) -> float:
    """Seconds until all runs are done, each taken by the first free device, in order; a run waits
    for the one that it is `after`."""
    free, done = [0.0] * devices, dict[str, float]()
    heapq.heapify(free)
    for run in runs:
        begin = max(heapq.heappop(free), done.get(run.after or "", 0.0))
        done[run.directory] = begin + seconds[run.directory]
        heapq.heappush(free, done[run.directory])
    return max(done.values())


def measure_start(rounds: int = 3) -> float:
    """Median seconds of a run that trains nothing, in a fresh process."""
    import torch

    from tools.benchmark.worker import VIT_B16  # before clip, whose warnings it knows

    # isort: split
    from clip.model import CLIP

    from frozen_clip import described
    from tools.toy.dataset import write_dataset

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "clip.pt")
        torch.save(described(CLIP(*VIT_B16).to(torch.float16)), weights)
        write_dataset(Path(folder, "data"))
        files = ("datasets/colored_shapes.yaml", "trainers/MMRL/vit_b16.yaml")
        command = [sys.executable, str(REPO / "train.py"), "--no-train", "--trainer", "MMRL"]
        command += ["--root", f"{folder}/data", "--output-dir", f"{folder}/run", "--seed", "1"]
        command += ["--dataset-config-file", str(REPO / "configs" / files[0])]
        command += ["--config-file", str(REPO / "configs" / files[1])]
        command += ["--backbone", str(weights), "TASK", "B2N", "DATASET.NUM_SHOTS", "16"]
        command += ["DATASET.SUBSAMPLE_CLASSES", "base"]
        taken = []
        for _ in range(rounds):
            begin = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            taken.append(time.perf_counter() - begin)
            if done.returncode:
                raise OSError(f"the run that measures the start failed: {done.stderr[-2000:]}")
    return statistics.median(taken)


def measure_scheduler(count: int, workers: int) -> tuple[float, float]:
    """(seconds of a sweep of runs that do nothing, of the same processes in a plain loop)."""
    with tempfile.TemporaryDirectory() as folder:
        place, python = Path(folder), Path(folder, "nothing")
        python.write_text(NOTHING)
        python.chmod(0o755)
        runs = [
            Run(name, ("--output-dir", str(place / "out" / name)))
            for name in (f"few_shot/none/shots_1/Nothing/none/seed{n}" for n in range(count))
        ]
        before = os.environ.get("PYTHON")
        os.environ["PYTHON"] = str(python)
        try:
            begin = time.perf_counter()
            with open(os.devnull, "w") as quiet, redirect_stdout(quiet):
                status = run_here(RunStore(place / "out"), runs, 0, environments(workers, 1))
            swept = time.perf_counter() - begin
        finally:
            if before is None:
                del os.environ["PYTHON"]
            else:
                os.environ["PYTHON"] = before
        if status:
            raise OSError(f"the sweep of runs that do nothing ended with {status}")
        begin = time.perf_counter()
        for number in range(min(count, 500)):
            subprocess.run([str(python), "--output-dir", f"{folder}/plain/{number}"], check=True)
        plain = (time.perf_counter() - begin) * count / min(count, 500)
    return swept, plain


def table(
    plans: dict[str, list[Run]], speed: Speed, devices: Sequence[int], overhead: float
) -> str:
    """Hours of every protocol, and days until it is done on several devices."""
    rows = []
    for name, runs in plans.items():
        work = [work_of(run) for run in runs]
        parts = np.array([speed.seconds(item) for item in work])
        seconds = dict(zip((run.directory for run in runs), parts.sum(1) + overhead, strict=True))
        train, test, start = parts.sum(0) / 3600
        steps, images = sum(item.steps for item in work), sum(item.images for item in work)
        days = [makespan(runs, seconds, count) / 86400 for count in devices]
        numbers = _numbers([train, test, start, len(runs) * overhead / 3600, *days])
        rows.append([name, len(runs), f"{steps:,}", f"{images:,}", *numbers])
    headers = ["protocol", "runs", "steps", "tested images", "training h", "testing h", "start h"]
    headers += ["scheduler h", *(f"days on {count}" for count in devices)]
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=align)


def _numbers(values: Iterable[float]) -> list[str]:
    return [f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in values]


def plans_of(method: str) -> dict[str, list[Run]]:
    """The three protocols on the whole benchmark with three seeds, and all of it."""
    place = Path("output")
    plans = {name: expand(Request(name, [method], place, place)) for name in PROTOCOLS}
    return plans | {"all": [run for runs in plans.values() for run in runs]}


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m tools.benchmark.scaling", description=__doc__)
    add = parser.add_argument
    add("measured", type=path, metavar="STEPS.json", help="what `tools.benchmark --json` wrote")
    add("--devices", nargs="+", type=positive, default=[1, 8, 64])
    add("--runs", type=positive, default=10_000, help="that do nothing, for the scheduler")
    args = parser.parse_args(argv)
    return guarded(lambda: measure_all(args), args)


@printing_stops_nothing()
def measure_all(args: argparse.Namespace) -> None:
    record = json.loads(args.measured.read_text(encoding="utf-8"))
    pairs = dict.fromkeys((case["method"], case["precision"]) for case in record)
    speeds = {pair: fitted(record, *pair) for pair in pairs}
    if not any(speeds.values()):
        raise ValueError(
            f"{args.measured} has fewer than four sizes of each method; measure them with "
            "python -m tools.benchmark --sizes 10x4 50x4 100x8 1000x8 1000x32 --json FILE"
        )
    start = measure_start()
    print(f"start of a run: {start:.1f} s (its process, ViT-B/16 from a file, a small data set)")
    workers = os.cpu_count() or 1
    swept, plain = measure_scheduler(args.runs, workers)
    overhead = max(0.0, swept - plain / workers) * workers / args.runs
    print(
        f"{args.runs} runs that do nothing, {workers} workers: {swept:.1f} s; the same processes "
        f"one after another: {plain:.1f} s; scheduler: {overhead * 1000:.1f} ms per run"
    )
    for (method, precision), speed in speeds.items():
        if speed is None:
            print(f"\n{method}, {precision}: fewer than four sizes were measured")
            continue
        a, b, c = speed.step
        print(
            f"\n{method}, {precision}: a step takes {a:.3g} s + {b:.3g} s per class + {c:.3g} s "
            f"per image of the batch; {speed.images:.3g} images/s are tested\n"
        )
        speed = Speed(speed.step, speed.images, start)
        print(table(plans_of(method), speed, args.devices, overhead))


if __name__ == "__main__":
    sys.exit(piped(main))
