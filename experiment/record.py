"""What a finished run leaves beside its log: `results.json` and `config.yaml`."""

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml
from yacs.config import CfgNode

from dassl.utils.whole_files import write_whole

# Keys that may change between a run and its continuation without changing what it computes.
INCIDENTAL = {
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "DATASET.ROOT",
    "DATALOADER.NUM_WORKERS",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.CHECKPOINT_EVERY",
}
PACKAGES = ("torch", "torchvision", "numpy", "clip-anytorch", "dassl")


def write_config(cfg: CfgNode, directory: Path) -> None:
    """Save the final config as `config.yaml`."""
    write_atomically(directory / "config.yaml", cfg.dump())


def check_continues(cfg: CfgNode, directory: Path) -> None:
    """ValueError when `directory` holds a run of another config, whose weights would be resumed."""
    from experiment.config import flatten

    file = directory / "config.yaml"
    saved = (*directory.glob("*/model*.pth.tar*"), *directory.glob("in_progress/*.pth.tar"))
    if not file.is_file() or not saved:
        return
    before = dict(flatten(yaml.safe_load(file.read_text())))
    now = dict(flatten(yaml.safe_load(cfg.dump())))
    keys = sorted((before.keys() & now.keys()) - INCIDENTAL)
    differ = [
        f"  {key}: {before[key]} there, {now[key]} now" for key in keys if before[key] != now[key]
    ]
    if differ:
        lines = "\n".join(differ[:12])
        raise ValueError(
            f"{directory} already holds a run with another config:\n{lines}\n"
            "Choose another --output-dir, or delete that folder to start afresh"
        )


def write_results(cfg: CfgNode, results: dict, directory: Path, **extra: object) -> None:
    """Save what a run found, with all digits, and what made it.

    `results` are a trainer's: accuracy, error_rate, macro_f1 in percent, total, split.
    """
    accuracy, total = float(results["accuracy"]), int(results["total"])
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
        "correct": round(accuracy * total / 100),
        **extra,
        "versions": versions(),
        "commit": commit(),
    }
    write_atomically(directory / "results.json", json.dumps(record, indent=1, default=float))


def forget_results(directory: Path) -> None:
    """Remove an earlier record: until this run has ended, the folder is unfinished."""
    (directory / "results.json").unlink(missing_ok=True)


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
    except OSError:
        return None
    return done.stdout.strip() or None


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`, or leave it as it was; OSError if there is no room."""
    write_whole(path, lambda part: part.write_text(text))
