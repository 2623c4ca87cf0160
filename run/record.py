"""Writes what a run leaves beside its log: `config.yaml`, `classes.json` and `results.json`."""

import json
import math
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yacs.config import CfgNode

from common import __version__
from dassl.utils.atomic_io import atomic_write
from run.schema import Record

if TYPE_CHECKING:
    from dassl.engine import SimpleTrainer

RESULTS, CLASSES = "results.json", "classes.json"
PREDICTIONS = "predictions.csv"
PACKAGES = ("torch", "torchvision", "numpy", "clip-anytorch", "dassl")


def write_config(cfg: CfgNode, directory: Path) -> None:
    """Save the final config as `config.yaml`."""
    write_atomically(directory / "config.yaml", cfg.dump())


def write_classes(trainer: "SimpleTrainer", directory: Path) -> None:
    """Save class names by label and the prompt template, to use a method without its dataset."""
    names = [name for _, name in sorted(trainer.lab2cname.items())]
    content = {"classnames": names, "template": getattr(trainer, "template", None)}
    write_atomically(directory / CLASSES, json.dumps(content, indent=1, ensure_ascii=False))


def holds_checkpoints(directory: Path) -> bool:
    """Whether there is a checkpoint to resume from, of the end of an epoch or during one."""
    saved = (directory.glob("*/model*.pth.tar*"), directory.glob("in_progress/*.pth.tar"))
    return any(True for files in saved for _ in files)


def check_output(directory: Path) -> None:
    """NotADirectoryError if a file stands in the place of a run's directory, or above it."""
    for place in (directory, *directory.parents):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(
                f"the run cannot be written to {directory}, because {place} is a file; "
                "choose another --output-dir"
            )


def check_resume(cfg: CfgNode) -> None:
    """FileNotFoundError if RESUME names a directory without a checkpoint."""
    if cfg.RESUME and not holds_checkpoints(Path(cfg.RESUME)):
        there = "holds no checkpoint of a run" if Path(cfg.RESUME).is_dir() else "is no folder"
        raise FileNotFoundError(
            f"RESUME is {cfg.RESUME}, which {there}. Give --resume the folder of a run, where "
            "<learner>/model.pth.tar-<epoch> lies, or leave it out to start afresh"
        )


def missing_folders(directory: Path) -> list[Path]:
    """The directory and its parents that do not exist, the deepest first."""
    return [place for place in (directory, *directory.parents) if not place.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Remove empty directories: a run that was refused leaves no trace."""
    for folder in folders:
        with suppress(OSError):  # not empty, or another run removed it
            folder.rmdir()


def write_results(cfg: CfgNode, results: dict[str, Any], directory: Path, **extra: object) -> None:
    """Save the results of a run and what made them, with all digits, as a `Record`.

    Args:
        results: of an evaluation: accuracy, error_rate, macro_f1 in percent, total, split
        extra: from `run.identity` and `run.details`

    Raises FloatingPointError for an accuracy that is infinite or NaN. Other such results are left
    out, and named under `not_finite`.
    """
    accuracy, total = float(results["accuracy"]), int(results["total"])
    if not math.isfinite(accuracy):
        raise FloatingPointError(
            f"the evaluator {cfg.TEST.EVALUATOR} found an accuracy of {accuracy}, which is no "
            "result: nothing is recorded. Set the trainer's PREC to fp32, or lower OPTIM.LR"
        )
    if left_out := [name for name, value in results.items() if _is_not_finite(value)]:
        results = {k: v for k, v in results.items() if k not in left_out} | {"not_finite": left_out}
    record = {
        "complete": True,
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "task": cfg.TASK,
        "classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        **results,
        "correct": _correct(accuracy, total),
        **extra,
        "version": __version__,
        "versions": versions(),
        "commit": commit(),
    }
    _write_record(directory / RESULTS, cast(Record, record))


def _write_record(path: Path, record: Record) -> None:
    write_atomically(path, json.dumps(record, indent=1, default=float, allow_nan=False))


def _correct(accuracy: float, total: int) -> int | None:
    """The number of correct predictions; None if the accuracy is not that of all images."""
    correct = round(accuracy * total / 100)
    return correct if abs(100 * correct / total - accuracy) <= 0.005 else None


def _is_not_finite(value: object) -> bool:
    return hasattr(value, "__float__") and not math.isfinite(float(value))


def forget_results(directory: Path) -> None:
    """Remove an earlier record: the run is unfinished until it has ended."""
    for name in (RESULTS, PREDICTIONS):
        (directory / name).unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version_of(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit() -> str | None:
    """The commit of the code that runs, or None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`, or leave it as it was; OSError if there is no room."""
    atomic_write(
        path,
        lambda part: part.write_text(
            text, encoding="utf-8", errors="surrogateescape", newline="\n"
        ),
    )
