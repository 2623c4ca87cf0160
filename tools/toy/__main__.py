"""Draw the demo dataset: python -m tools.toy ROOT [--shift 0.5] [--seed 0]."""

from __future__ import annotations

import argparse
import sys
import time

from run.command import Parser, guarded, path, piped, positive, printing_stops_nothing
from tools.toy.dataset import COUNTS, SHIFT, write_dataset


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m tools.toy", description=__doc__.split(":")[0])
    parser.add_argument("root", type=path, help="the directory that holds all datasets")
    parser.add_argument(
        "--shift", type=float, default=SHIFT, help="0 (none) to 1 (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    for split, count in COUNTS.items():
        text = f"{split} images a class (default: %(default)s)"
        parser.add_argument(f"--{split}", type=positive, default=count, help=text)
    args = parser.parse_args(argv)
    return guarded(lambda: run(args), args)


@printing_stops_nothing()
def run(args: argparse.Namespace) -> None:
    if args.root.exists() and not args.root.is_dir():
        raise NotADirectoryError(f"{args.root} is a file; give the directory of all datasets")
    counts = {split: getattr(args, split) for split in COUNTS}
    start = time.monotonic()
    folder = write_dataset(args.root, seed=args.seed, shift=args.shift, counts=counts)
    print(f"{folder}: ready after {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    sys.exit(piped(main))
