"""What a run leaves beside its log: `config.yaml`, `classes.json` and `results.json`."""

import json
import math
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from yacs.config import CfgNode

from dassl.utils.atomic_io import atomic_write

if TYPE_CHECKING:
    from dassl.engine import SimpleTrainer

RESULTS, CLASSES = "results.json", "classes.json"
PREDICTIONS = "predictions.csv"
PACKAGES = ("torch", "torchvision", "numpy", "clip-anytorch", "dassl")


def write_config(cfg: CfgNode, directory: Path) -> None:
    """Save the final config as `config.yaml`."""
    write_atomically(directory / "config.yaml", cfg.dump())


def write_classes(trainer: "SimpleTrainer", directory: Path) -> None:
    """Save the class names by label, and the sentence around them, as `classes.json`.

    With it a trained method can be used where its data set is not.
    """
    names = [name for _, name in sorted(trainer.lab2cname.items())]
    content = {"classnames": names, "template": getattr(trainer, "template", None)}
    write_atomically(directory / CLASSES, json.dumps(content, indent=1, ensure_ascii=False))


def holds_checkpoints(directory: Path) -> bool:
    """Whether a run left something to go on from, at the end of an epoch or during one."""
    saved = (directory.glob("*/model*.pth.tar*"), directory.glob("in_progress/*.pth.tar"))
    return any(True for files in saved for _ in files)


def check_output(directory: Path) -> None:
    """NotADirectoryError where a file stands in the place of the run's folder, or above it."""
    for place in (directory, *directory.parents):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(
                f"the run cannot be written to {directory}, because {place} is a file; "
                "choose another --output-dir"
            )


def check_resume(cfg: CfgNode) -> None:
    """FileNotFoundError unless the run to go on from, if there is one, has a checkpoint."""
    if cfg.RESUME and not holds_checkpoints(Path(cfg.RESUME)):
        there = "holds no checkpoint of a run" if Path(cfg.RESUME).is_dir() else "is no folder"
        raise FileNotFoundError(
            f"RESUME is {cfg.RESUME}, which {there}. Give --resume the folder of a run, where "
            "<learner>/model.pth.tar-<epoch> lies, or leave it out to start afresh"
        )


def missing_folders(directory: Path) -> list[Path]:
    """The folder and those above it that are not there, the deepest first."""
    return [place for place in (directory, *directory.parents) if not place.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Remove those that hold nothing: a run that was refused leaves no trace."""
    for folder in folders:
        with suppress(OSError):  # not empty, or another run removed it
            folder.rmdir()


def write_results(cfg: CfgNode, results: dict, directory: Path, **extra: object) -> None:
    """Save what a run found, with all digits, and what made it.

    `results` are an evaluation's: accuracy, error_rate, macro_f1 in percent, total, split;
    `extra` is what `run.identity` and `run.details` add. FloatingPointError where the
    accuracy is infinite or NaN; other results that are so are left out, and named under
    `not_finite`.
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
        "versions": versions(),
        "commit": commit(),
    }
    text = json.dumps(record, indent=1, default=float, allow_nan=False)
    write_atomically(directory / RESULTS, text)


def _correct(accuracy: float, total: int) -> int | None:
    """How many predictions were correct; None for an accuracy that is no share of all images."""
    correct = round(accuracy * total / 100)
    return correct if abs(100 * correct / total - accuracy) <= 0.005 else None


def _is_not_finite(value: object) -> bool:
    return hasattr(value, "__float__") and not math.isfinite(float(value))


def forget_results(directory: Path) -> None:
    """Remove an earlier record: until this run has ended, the folder is unfinished."""
    for name in (RESULTS, PREDICTIONS):
        (directory / name).unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Of Python and the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
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
