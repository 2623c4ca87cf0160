"""What a record holds beyond the accuracy: classes, pictures, time, memory."""

import csv
import io
from pathlib import Path
from typing import Any

from dassl.engine import SimpleTrainer
from dassl.utils.distributed import world_size
from run.data_hashes import few_shot_hash, relative_paths
from run.machine import device_name, peak_memory
from run.record import PREDICTIONS, write_atomically
from run.recorder import RunRecorder


def details(recorder: RunRecorder, directory: Path, eval_only: bool) -> dict[str, Any]:
    """What else `results.json` has; what does not apply to a run is None."""
    trainer = recorder.trainer
    trained = not eval_only and bool(trainer.get_model_names())
    spent = recorder.spent()
    peak, kind = peak_memory(trainer.device)
    return {
        "per_class": per_class(recorder),
        "predictions": write_predictions(recorder, directory),
        "parameters": parameters(trainer),
        "clip": getattr(getattr(trainer, "clip", None), "origin", None),
        "few_shot_hash": few_shot_hash(trainer) if trained else None,
        "shots_short": shots_short(trainer) if trained else None,
        "seconds": spent["seconds"],
        "train_seconds": spent["train_seconds"] if trained else None,
        "images_per_second": {
            "train": train_speed(trainer, spent) if trained else None,
            "test": recorder.results["total"] / recorder.test_seconds,
        },
        "features_were_stored": getattr(trainer, "features_were_stored", False),
        "resumed_from_epoch": recorder.resumed_from if trained else None,
        "peak_memory_bytes": peak,
        "peak_memory_kind": kind,
        "device": device_name(trainer.device),
        "processes": world_size(),
    }


def parameters(trainer: SimpleTrainer) -> int:
    """How many numbers are trained."""
    models = (trainer._models[name] for name in trainer.get_model_names())
    trained = {p for model in models for p in model.parameters() if p.requires_grad}
    return sum(p.numel() for p in trained)


def train_speed(trainer: SimpleTrainer, spent: dict[str, float]) -> float | None:
    """Labelled pictures a second of epochs, loading and workers' start included."""
    loader: Any = trainer.train_loader_x
    if not spent["train_seconds"] or not getattr(loader, "batch_size", None):
        return None
    batch = min(loader.batch_size, len(loader.dataset))
    return spent["train_batches"] * batch / spent["train_seconds"]


def per_class(recorder: RunRecorder) -> list[dict[str, Any]] | None:
    """For each class of the run how many of its pictures were tested, and answered rightly."""
    if not recorder.has_predictions:
        return None
    names = recorder.trainer.lab2cname
    counts = {label: [0, 0] for label in names}
    for label, answer in zip(*recorder.predictions()[:2], strict=True):
        count = counts.setdefault(label, [0, 0])  # a plugin may test classes it did not train
        count[0] += 1
        count[1] += label == answer
    return [
        {"label": label, "name": names.get(label), "total": total, "correct": correct}
        for label, (total, correct) in sorted(counts.items())
    ]


# Pictures


def write_predictions(recorder: RunRecorder, directory: Path) -> str | None:
    """With TEST.SAVE_PREDICTIONS write `predictions.csv`; its name, or None."""
    if not recorder.trainer.cfg.TEST.SAVE_PREDICTIONS:
        return None
    items = recorder.tested()
    if items is None:
        print(f"No {PREDICTIONS}: which scores are of which picture cannot be told")
        return None
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("impath", "label", "prediction", "probability"))
    paths = relative_paths(recorder.trainer, items)
    for path, label, answer, probability in zip(paths, *recorder.predictions(), strict=True):
        shown = path.encode(errors="backslashreplace").decode()  # names that are not UTF-8
        writer.writerow((shown, label, answer, f"{probability:.9g}"))  # all digits of a float32
    write_atomically(directory / PREDICTIONS, table.getvalue())
    return PREDICTIONS


def shots_short(trainer: SimpleTrainer) -> dict[str, int]:
    """How many images were trained on, of each class that has fewer than the shots asked for."""
    from datasets.few_shot import short_of_shots  # late: prediction needs no datasets

    return short_of_shots(trainer.dm.dataset.train_x, trainer.cfg.DATASET.NUM_SHOTS)
