"""What a run's files hold beside its result: training curves, accuracy per class, confusion."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tools.results import Run

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class Material:
    """`curves`: values by step, ascending, of each TensorBoard tag. `classes`: name, total, correct
    and accuracy in percent (NaN without test images) by label. `confusion`: numbers of images, rows
    are labels, columns predictions. `damaged` says what could not be read."""

    curves: dict[str, pd.Series]
    classes: pd.DataFrame
    confusion: pd.DataFrame  # None without predictions
    damaged: list[str]

    def name(self, label: int) -> str:
        return self.classes.name.get(label, f"class {label}")


def read_material(run: Run) -> Material:
    """Everything there is; a file that cannot be read is noted and left out."""
    curves, damaged = read_curves(run.path / "tensorboard")
    confusion, classes = None, class_frame([])
    if (run.path / PREDICTIONS).is_file():
        try:
            confusion = read_confusion(run.path / PREDICTIONS)
        except (OSError, ValueError) as error:
            damaged.append(f"{run.path / PREDICTIONS}: {error}")
    try:
        classes = classes_of(run.record, confusion)
    except ValueError as error:
        damaged.append(f"{run.source}: {error}")
    return Material(curves, classes, confusion, damaged)


def read_confusion(file: Path) -> pd.DataFrame:
    """Count a `predictions.csv` (impath, label, prediction, probability).

    Raises ValueError when it is not such a file, OSError when it cannot be read.
    """
    columns = ["label", "prediction"]
    pairs = pd.read_csv(file, usecols=columns, encoding_errors="replace")
    if pairs.empty:
        raise ValueError("no predictions in it")
    for column in columns:
        if pairs[column].dtype.kind != "i" or (pairs[column] < 0).any():
            raise ValueError(f"column '{column}' should hold labels, whole numbers from 0")
    counts = pd.crosstab(pairs.label, pairs.prediction)
    labels = counts.index.union(counts.columns)
    return counts.reindex(index=labels, columns=labels, fill_value=0)


def classes_of(record: dict[str, Any], confusion: pd.DataFrame | None) -> pd.DataFrame:
    """Per class: as the record says, else counted from the predictions; empty without both.

    Raises ValueError for entries that cannot be true.
    """
    entries = record.get("per_class") or []
    if not isinstance(entries, list):
        raise ValueError("'per_class' is no list")
    for entry in entries:
        _check_entry(entry)
    if not entries and confusion is not None:
        entries = [
            {"label": label, "name": None, "total": row.sum(), "correct": row[label]}
            for label, row in confusion.iterrows()
            if row.sum()
        ]
    return class_frame(entries)


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, dict) or not {"label", "name", "total", "correct"} <= entry.keys():
        raise ValueError(f"an entry of 'per_class' lacks something: {entry!r:.200}")
    numbers = [entry[key] for key in ("label", "correct", "total")]
    if any(type(n) is not int for n in numbers) or not 0 <= entry["correct"] <= entry["total"]:
        raise ValueError(f"an entry of 'per_class' is impossible: {entry!r:.200}")


def class_frame(entries: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(entries, columns=["label", "name", "total", "correct"]).set_index("label")
    frame["name"] = [
        f"class {label}" if name is None else str(name) for label, name in frame.name.items()
    ]
    total = frame.total.where(frame.total > 0).astype(float)
    return frame.assign(accuracy=100 * frame.correct / total)


def weakest(classes: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """The `count` classes of lowest accuracy (None: all), in the order of their labels."""
    if count is not None and len(classes) > count:
        tested = classes.dropna(subset="accuracy").sort_index()
        classes = tested.sort_values("accuracy", kind="stable")[:count]
    return classes.sort_index()


# ---- TensorBoard


def read_curves(folder: Path) -> tuple[dict[str, pd.Series], list[str]]:
    """The curves of a `tensorboard/` folder by tag, and notes on files that gave nothing.

    A run that was interrupted has one event file per start. A later file continues the earlier
    ones: what those hold from its first step on was done again and is left out.
    """
    notes: list[str] = []
    files = [file for file in sorted(folder.glob("*tfevents*")) if file.is_file()]
    found = [_read_events(file, notes) for file in files]
    curves: dict[str, pd.Series] = {}
    for _, tags in sorted(found, key=lambda item: item[0]):
        for tag, points in tags.items():
            earlier = curves.get(tag, points[:0])
            curves[tag] = pd.concat([earlier[earlier.index < points.index[0]], points])
    return curves, notes


def _read_events(file: Path, notes: list[str]) -> tuple[float, dict[str, pd.Series]]:
    """When the file was begun, and its values by tag and step; a cut-off file gives what it has."""
    from google.protobuf.message import DecodeError
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every file's end
    events = EventAccumulator(str(file), size_guidance={SCALARS: 0})
    damaged = None
    try:
        events.Reload()
    except DecodeError:  # a whole record that is no event
        damaged = "damaged; what stands before that is shown"
    points = {tag: own for tag in events.Tags()[SCALARS] if (own := events.Scalars(tag))}
    if not points and file.stat().st_size:
        damaged = damaged or "no scalars could be read"
    if damaged:
        notes.append(f"{file}: {damaged}")
    begun = min((own[0].wall_time for own in points.values()), default=0.0)
    curves = {tag: pd.Series({p.step: p.value for p in own}) for tag, own in points.items()}
    return begun, {tag: curve.sort_index() for tag, curve in curves.items()}
