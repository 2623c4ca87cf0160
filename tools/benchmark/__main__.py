"""Ours against the plain version, which does what the published code does.

    python -m tools.benchmark [--quick] [--json FILE]

Measures a training step, evaluation and peak memory on a random CLIP of ViT-B/16's size, each
in a fresh process, the two sides by turns, with the same weights and inputs; checks that both
give the same loss and gradients; prints a table with ratios.
"""

import argparse
import json
import platform
import subprocess
import sys
from itertools import product
from pathlib import Path

from tabulate import tabulate

from experiment.command import Parser, guarded, positive

REPO = Path(__file__).parents[2]
SIZES = ((10, 4), (50, 4), (100, 8), (500, 8))  # classes, batch
OURS_ALONE = ((1000, 8), (1000, 32), (21000, 8))  # where the plain side does not fit
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}  # relative, of the loss and the gradients' norm


def run(case: dict) -> dict:
    """One measurement in a process of its own. RuntimeError with its last words if it fails."""
    command = [sys.executable, "-m", "tools.benchmark.worker", json.dumps(case)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(case: dict, rounds: int) -> dict[str, dict]:
    """Both sides by turns; the best step and evaluation, the largest peak of each side.

    Raises RuntimeError when they differ in loss or gradients.
    """
    sides: dict[str, list[dict]] = {"plain": [], "ours": []}
    for _ in range(rounds):
        for side, measured in sides.items():
            measured.append(run({**case, "side": side}))
    best = {side: summary(measured) for side, measured in sides.items()}
    for key in ("loss", "gradient"):
        ours, theirs = best["ours"][key], best["plain"][key]
        if abs(ours - theirs) > TOLERANCE[case["precision"]] * abs(theirs):
            raise RuntimeError(f"{case}: {key} is {ours}, plain {theirs}: not the same result")
    return best


def summary(measured: list[dict]) -> dict:
    return {
        **measured[0],
        "step": min(m["step"] for m in measured),
        "images": max(m["images"] for m in measured),
        "memory": max(m["memory"] for m in measured),
    }


def row(case: dict, sides: dict[str, dict]) -> list[str]:
    ours, theirs = sides["ours"], sides.get("plain")
    cells = [case["method"], case["precision"], str(case["classes"]), str(case["batch"])]
    for key, unit in (("step", 1), ("memory", 2**30), ("images", 1)):
        mine = ours[key] / unit
        if theirs is None:
            cells += ["-", f"{mine:.2f}", "-"]
            continue
        other = theirs[key] / unit
        ratio = mine / other if key == "images" else other / mine
        cells += [f"{other:.2f}", f"{mine:.2f}", f"{ratio:.1f}x"]
    return cells


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m tools.benchmark", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="MMRL in fp32, up to 100 classes, one round")
    add("--methods", nargs="+", default=["MMRL", "MMRLPlus"], choices=["MMRL", "MMRLPlus"])
    add("--precisions", nargs="+", default=["fp32", "bf16"], choices=list(TOLERANCE))
    add("--rounds", type=positive, default=2, help="fresh processes per side")
    add("--steps", type=positive, default=3, help="timed steps per process")
    add("--json", type=Path, help="also write all numbers to this file")
    args = parser.parse_args(argv)
    return guarded(lambda: measure_all(args), args)


def measure_all(args: argparse.Namespace) -> None:
    if args.json and not args.json.parent.is_dir():  # it is written last, after minutes
        raise FileNotFoundError(
            f"--json {args.json}: there is no folder {args.json.parent}; make it"
        )
    if args.quick:
        args.methods, args.precisions, args.rounds = ["MMRL"], ["fp32"], 1

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    print(f"{device} ({name}), {torch.get_num_threads()} threads, torch {torch.__version__}")
    sizes = [*SIZES[:3]] if args.quick else [*SIZES, *OURS_ALONE]
    rows, record = [], []
    for method, precision, (classes, batch) in product(args.methods, args.precisions, sizes):
        case = {"method": method, "precision": precision, "classes": classes, "batch": batch}
        case |= {"steps": args.steps, "device": device}
        if (classes, batch) in OURS_ALONE:
            sides = {"ours": run({**case, "side": "ours"})}
        else:
            sides = compare(case, args.rounds)
        rows.append(row(case, sides))
        record.append({**case, **sides})
        print("  ".join(rows[-1]), flush=True)
    header = ["method", "precision", "classes", "batch"]
    for what in ("s/step", "GiB", "img/s"):
        header += [f"plain {what}", f"ours {what}", "ratio"]
    print(
        tabulate(
            rows, headers=header, disable_numparse=True, colalign=["left"] * 2 + ["right"] * 11
        )
    )
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    sys.exit(main())
