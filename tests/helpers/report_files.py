"""Output trees of runs as training leaves them, without training: for the tests of the report."""

import csv
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from tests.helpers import result_files

METHODS = ("ZeroshotCLIP", "CoOp", "CoCoOp", "MaPLe", "PromptSRC", "MMRL", "MMRLPlus")
CLASSES = ("red circle", "blue square", "green star")
VERSIONS = {"python": "3.11.7", "torch": "2.15.0", "numpy": "2.4.6"}


SPLITS = {
    "train_base": "base2new",
    "test_new": "base2new",
    "train_source": "cross_dataset",
    "test_target": "cross_dataset",
}


def run_folder(
    root: Path, split: str, dataset: str, trainer: str, seed: int, shots: int = 16
) -> Path:
    place = root / "few_shot" if split == "few_shot" else root / SPLITS[split] / split
    return place / dataset / f"shots_{shots}" / trainer / "vit_b16" / f"seed{seed}"


def write_run(folder: Path, classes: Sequence[str] = CLASSES, **changes: object) -> Path:
    """A finished run with everything a report can show; `changes` to its record, None: absent."""
    draw = random.Random("/".join(folder.parts[-6:]))
    trainer, seed = folder.parent.parent.name, int(folder.name[4:])
    skill = 0.6 + 0.05 * (METHODS.index(trainer) if trainer in METHODS else 3)
    rows = []
    for label in range(len(classes)):
        for i in range(20):
            right = draw.random() < skill
            rows.append(
                (f"{label}/{i}.jpg", label, label if right else draw.randrange(len(classes)))
            )
    per_class = [
        {
            "label": label,
            "name": name,
            "total": 20,
            "correct": sum(a == b == label for _, a, b in rows),
        }
        for label, name in enumerate(classes)
    ]
    correct = sum(entry["correct"] for entry in per_class)
    record = json.loads(result_files.results(correct, len(rows))) | {
        "trainer": trainer,
        "seed": seed,
        "per_class": per_class,
        "parameters": 1000 * len(trainer),
        "seconds": 40.0 + seed,
        "train_seconds": 30.0 + seed,
        "images_per_second": {"train": 120.5, "test": 800.25},
        "peak_memory_bytes": 2_000_000_000 + 1_000_000 * len(trainer),
        "device": "cpu",
        "few_shot_hash": f"{seed}" * 16,
        "versions": VERSIONS,
        "commit": "0123456789abcdef0123456789abcdef01234567",
    }
    record = {key: value for key, value in (record | changes).items() if value is not None}
    result_files.write(folder / "results.json", json.dumps(record))
    with open(folder / "predictions.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["impath", "label", "prediction", "probability"])
        table.writerows((*row, "0.9") for row in rows)
    write_config(folder)
    return folder


def write_config(folder: Path, **changes: object) -> None:
    """`config.yaml`; changes by flat key, with double underscores for points."""
    config: dict = {
        "OPTIM": {"LR": 0.001, "MAX_EPOCH": 10, "NAME": "adamw"},
        "DATASET": {"NAME": folder.parents[3].name, "ROOT": "data"},
        "SEED": int(folder.name[4:]),
        "OUTPUT_DIR": str(folder),
    }
    for key, value in changes.items():
        *path, leaf = key.split("__")
        node = config
        for name in path:
            node = node.setdefault(name, {})
        node[leaf] = value
    result_files.write(folder / "config.yaml", yaml.safe_dump(config))


def write_scalars(folder: Path, steps: Iterable[int], value: float = 1.0, suffix: str = "") -> Path:
    """An event file with a falling loss, its terms, accuracy and learning rate."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard"), filename_suffix=suffix) as writer:
        for step in steps:
            share = value / (1 + step / 50)
            writer.add_scalar("train/loss", 3 * share, step)
            writer.add_scalar("train/ce_class", 2 * share, step)
            writer.add_scalar("train/reg_image", share, step)
            writer.add_scalar("train/acc", 100 - 60 * share, step)
            writer.add_scalar("train/lr", 0.001 * share, step)
        writer.add_scalar("test/accuracy", 81.25, 9)
    return folder
