"""A run's TensorBoard scalars, read with TensorBoard's own reader."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LONGEST = 200  # points of a curve that is drawn


class Curve(NamedTuple):
    """One tag: steps, ascending, and the value at each; `length` is that before thinning."""

    steps: tuple[int, ...]
    values: tuple[float, ...]
    length: int


def read_curves(folder: Path, longest: int = LONGEST) -> tuple[dict[str, Curve], list[str]]:
    """The curves of a `tensorboard/` folder by tag, and notes on files that gave nothing.

    A run that was interrupted has one event file per start. A later file continues the earlier
    ones: what those hold from its first step on was done again and is left out. Curves with more
    than `longest` points are thinned evenly. A file that is cut off gives what it holds.
    """
    joined: dict[str, dict[int, float]] = {}
    notes = []
    for file, tags in _event_files(folder):
        if not tags and file.stat().st_size:
            notes.append(f"{file}: no scalars could be read")
        for tag, points in tags.items():
            first = min(points)
            earlier = {step: v for step, v in joined.get(tag, {}).items() if step < first}
            joined[tag] = earlier | points
    return {tag: _thinned(sorted(points.items()), longest) for tag, points in joined.items()}, notes


def _event_files(folder: Path) -> list[tuple[Path, dict[str, dict[int, float]]]]:
    """Every event file with its {tag: {step: value}}, in the order in which they were begun."""
    files = [path for path in folder.glob("*tfevents*") if path.is_file()]
    found = [(_read(file), file) for file in files]
    return [
        (file, tags) for (_, tags), file in sorted(found, key=lambda item: (item[0][0], item[1]))
    ]


def _read(file: Path) -> tuple[float, dict[str, dict[int, float]]]:
    """(time of the first scalar in seconds, {tag: {step: value}}) of one file."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every file's end
    events = EventAccumulator(str(file), size_guidance={SCALARS: 0})
    events.Reload()
    tags = {tag: events.Scalars(tag) for tag in events.Tags()[SCALARS]}
    begun = min((points[0].wall_time for points in tags.values() if points), default=math.inf)
    values = {tag: {p.step: p.value for p in points} for tag, points in tags.items() if points}
    return begun, values


def _thinned(points: Sequence[tuple[int, float]], longest: int) -> Curve:
    """Evenly chosen points, the last one among them."""
    count = len(points)
    if count > longest:
        points = [points[(i + 1) * count // longest - 1] for i in range(longest)]
    steps, values = zip(*points, strict=True)
    return Curve(steps, values, count)
