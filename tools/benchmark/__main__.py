"""Ours against the plain version, which does what the published code does.

    python -m tools.benchmark [--quick] [--json FILE]

Measures a training step, evaluation and peak memory on a random CLIP of ViT-B/16's size, each
in a fresh process, the two sides by turns, with the same weights and inputs; checks that both
give the same loss and gradients; prints a table with ratios, how far a step is from the
arithmetic floor (its matmuls at the speed of one large matmul), and how it grows with the
number of classes.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from tabulate import tabulate

from common.method_names import find
from run.command import Parser, guarded, path, piped, positive, printing_stops_nothing

REPO = Path(__file__).parents[2]
SIZES = ((10, 4), (50, 4), (100, 8), (500, 8))  # classes, batch
FEW = 100  # classes to which more are compared
OURS_ALONE = ((1000, 8), (1000, 32), (21000, 8))  # where the plain side does not fit
TOLERANCE = {
    "fp32": 1e-4,
    "bf16": 5e-2,
    "fp16": 2e-2,
}  # relative, of the loss and the gradients' norm


def run(case: dict[str, Any]) -> dict[str, Any]:
    """One measurement in a process of its own. RuntimeError with its last words if it fails."""
    command = [sys.executable, "-m", "tools.benchmark.worker", json.dumps(case)]
    # frozen_clip.load asks for huge pages, which plain code does not
    environment = os.environ | {"THP_MEM_ALLOC_ENABLE": "0" if case["side"] == "plain" else "1"}
    done = subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{case} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(case: dict[str, Any], rounds: int, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The sides by turns; the best step and evaluation, the largest peak of each.

    Raises RuntimeError when they differ in loss or gradients, or these are not finite.
    """
    sides: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(rounds):
        for side, measured in sides.items():
            measured.append(run({**case, "side": side}))
    best = {side: summary(measured) for side, measured in sides.items()}
    first, *others = names
    for side, key in product(names, ("loss", "gradient")):
        if not math.isfinite(best[side][key]):
            raise RuntimeError(f"{case}: {key} of {side} is {best[side][key]}, which is no result")
    for key, other in product(("loss", "gradient"), others):
        mine, theirs = best[other][key], best[first][key]
        if not abs(mine - theirs) <= TOLERANCE[case["precision"]] * abs(theirs):
            raise RuntimeError(
                f"{case}: {key} of {other} is {mine}, of {first} {theirs}: not the same result"
            )
    return best


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **measured[0],
        "step": min(m["step"] for m in measured),
        "images": max(m["images"] for m in measured),
        "memory": max(m["memory"] for m in measured),
    }


def row(case: dict[str, Any]) -> list[str]:
    """A line of the table, of a case and what its sides measured."""
    ours, theirs = case["ours"], case.get("plain")
    cells = [case["method"], case["precision"], str(case["classes"]), str(case["batch"])]
    for key, unit in (("step", 1), ("memory", 2**30), ("images", 1)):
        mine = ours[key] / unit
        if theirs is None:
            cells += ["-", f"{mine:.3g}", "-"]
            continue
        other = theirs[key] / unit
        ratio = mine / other if key == "images" else other / mine
        cells += [f"{other:.3g}", f"{mine:.3g}", f"{ratio:.1f}x"]
    cells.append(f"{ours['step'] / ours['floor']:.1f}x" if ours["floor"] else "-")
    compiled = case.get("compiled")
    cells.append(f"{ours['step'] / compiled['step']:.2f}x" if compiled else "-")
    return cells


def table(rows: list[list[str]]) -> str:
    header = ["method", "precision", "classes", "batch"]
    for what in ("s/step", "GiB", "img/s"):
        header += [f"plain {what}", f"ours {what}", "ratio"]
    header += ["step/floor", "compiled"]
    aligned = ["left"] * 2 + ["right"] * (len(header) - 2)
    return tabulate(
        rows, headers=header, disable_numparse=True, colalign=aligned, tablefmt="github"
    )


def growth(record: list[dict[str, Any]]) -> list[str]:
    """How a step of ours grows with the number of classes, for one batch size."""
    steps = {
        (case["method"], case["precision"], case["classes"], case["batch"]): case["ours"]["step"]
        for case in record
    }
    return [
        f"{method}, {precision}, batch {batch}: a step with {classes} classes takes "
        f"{step / steps[method, precision, FEW, batch]:.2f} times one with {FEW}"
        for (method, precision, classes, batch), step in steps.items()
        if classes > FEW and (method, precision, FEW, batch) in steps
    ]


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m tools.benchmark", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="MMRL in fp32, up to 100 classes, one round")
    add("--methods", nargs="+", default=["MMRL", "MMRLPlus"], help="or all that take steps")
    add("--precisions", nargs="+", default=["fp32", "bf16"], choices=list(TOLERANCE))
    add("--rounds", type=positive, default=2, help="fresh processes per side")
    add("--sizes", nargs="+", type=size, metavar="CLASSESxBATCH", help="only these, such as 100x8")
    add("--compile", action="store_true", help="measure ours with TRAIN.COMPILE too")
    add("--steps", type=positive, default=3, help="timed steps per process")
    add("--json", type=path, help="also write all numbers to this file")
    args = parser.parse_args(argv)
    return guarded(lambda: measure_all(args), args)


@printing_stops_nothing()
def measure_all(args: argparse.Namespace) -> None:
    if args.json and not args.json.parent.is_dir():  # it is written last, after minutes
        raise FileNotFoundError(
            f"--json {args.json}: there is no folder {args.json.parent}; make it"
        )
    if args.quick:
        args.methods, args.precisions, args.rounds = ["MMRL"], ["fp32"], 1

    import torch

    from run.machine import device_name
    from tools.benchmark.worker import with_steps

    known = with_steps()
    asked = known if "all" in args.methods else [find(name, known) or name for name in args.methods]
    if unknown := set(asked) - set(known):
        raise ValueError(f"--methods {', '.join(unknown)}: allowed are {', '.join(known)}, and all")

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and "fp16" in args.precisions:
        raise ValueError("--precisions fp16 needs a GPU; on a CPU fp32 and bf16 can be measured")
    name, threads = device_name(torch.device(device)), torch.get_num_threads()
    print(f"{name}, {threads} threads, torch {torch.__version__}")
    sizes = args.sizes or (SIZES[:3] if args.quick else [*SIZES, *OURS_ALONE])
    record = []
    for method, precision, (classes, batch) in product(asked, args.precisions, sizes):
        case = {"method": method, "precision": precision, "classes": classes, "batch": batch}
        case |= {"steps": args.steps, "device": device}
        machine = {"machine": f"{name}, {threads} threads"}
        record.append(case | machine | compare(case, args.rounds, sides_of(case, args.compile)))
        print("  ".join(row(record[-1])), flush=True)
    if args.json:
        args.json.write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    print(table([row(case) for case in record]), *growth(record), sep="\n")


def sides_of(case: dict[str, Any], compiled: bool) -> list[str]:
    plain = [] if (case["classes"], case["batch"]) in OURS_ALONE else ["plain"]
    return [*plain, "ours", *(["compiled"] if compiled else [])]


def size(text: str) -> tuple[int, int]:
    """'100x8' -> (100, 8)."""
    try:
        classes, batch = map(positive, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; give classes x batch, such as 100x8"
        ) from None
    return classes, batch


if __name__ == "__main__":
    sys.exit(piped(main))
