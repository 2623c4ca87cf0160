"""The main job on drawn pictures: train on base classes, test on base and on new ones.

    python -m tools.demo [METHOD ...]

Draws the data set, sweeps base-to-new over three seeds, as many runs at once as there are cores,
and prints the tables: accuracies, and what training took. METHOD all is every method. No download,
no GPU. The same command again continues.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from run.command import Parser, guarded, piped, printing_stops_nothing
from tools.sweep import cli as sweep
from tools.sweep.protocols import known_methods, trainer_named

REPO = Path(__file__).parents[1]
DATA = REPO / "data" / "toy"
OUTPUT = REPO / "output" / "demo"
METHODS = ("ZeroshotCLIP", "MMRL", "MMRLPlus")


def main(argv: list[str] | None = None) -> int:
    """Exit codes as of a sweep: 0, 1 if a run failed, 75 or 130 if it was stopped."""
    parser = Parser(prog="python -m tools.demo", description="The main job on drawn pictures.")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"or all; default: {METHODS}")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args.methods or METHODS), args)


@printing_stops_nothing()
def run(methods: Sequence[str]) -> int:
    """Draw, sweep, and print what was found."""
    flags = [*("--methods", *methods), *("--datasets", "colored_shapes"), *("--cfg", "small")]
    flags += ["--root", str(DATA), "--output", str(OUTPUT), "--workers", str(os.cpu_count() or 1)]
    named = [trainer_named(m) for m in (known_methods() if "all" in methods else methods)]

    from tools.toy.dataset import write_dataset

    print(f"Drawing the data set in {DATA} ...", flush=True)
    write_dataset(DATA)
    status = sweep.main(["base2new", *flags])
    if status > 1:
        return status

    from tools.results import cli

    cli.main([str(OUTPUT)])
    print(f"\nTraining on the base classes, mean over the seeds:\n\n{costs(named)}")
    print(f"\nEverything is in {OUTPUT}; delete that folder to run the demo afresh.")
    return status


def costs(methods: Sequence[str]) -> str:
    """A line for each method: what it trains, and for how long."""
    from tabulate import tabulate

    from run.reader import read_record

    rows = []
    for method in dict.fromkeys(methods):
        runs = OUTPUT.glob(f"base2new/train_base/*/*/{method}/small/seed*/results.json")
        records = [read_record(run)[0] for run in runs]
        if records:
            seconds = fmean(record["train_seconds"] or 0 for record in records)
            rows.append([method, f"{records[0]['parameters']:,}", f"{seconds:.1f}"])
    head = ["method", "trained parameters", "seconds"]
    return tabulate(rows, head, colalign=("left", "right", "right"), disable_numparse=True)


if __name__ == "__main__":
    sys.exit(piped(main))
