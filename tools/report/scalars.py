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
    for file, (_, tags, damaged) in _event_files(folder):
        if damaged:
            notes.append(f"{file}: damaged; what stands before that is shown")
        elif not tags and file.stat().st_size:
            notes.append(f"{file}: no scalars could be read")
        for tag, points in tags.items():
            first = min(points)
            earlier = {step: v for step, v in joined.get(tag, {}).items() if step < first}
            joined[tag] = earlier | points
    return {tag: _thinned(sorted(points.items()), longest) for tag, points in joined.items()}, notes


class _Content(NamedTuple):
    """Of one file: time of its first scalar in seconds, {tag: {step: value}}."""

    begun: float
    tags: dict[str, dict[int, float]]
    damaged: bool


def _event_files(folder: Path) -> list[tuple[Path, _Content]]:
    """Every event file with what it holds, in the order in which they were begun."""
    files = [path for path in folder.glob("*tfevents*") if path.is_file()]
    found = [(file, _read(file)) for file in files]
    return sorted(found, key=lambda item: (item[1].begun, item[0]))


def _read(file: Path) -> _Content:
    from google.protobuf.message import DecodeError
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every file's end
    events = EventAccumulator(str(file), size_guidance={SCALARS: 0})
    damaged = False
    try:
        events.Reload()
    except DecodeError:  # a whole record that is no event
        damaged = True
    tags = {tag: events.Scalars(tag) for tag in events.Tags()[SCALARS]}
    begun = min((points[0].wall_time for points in tags.values() if points), default=math.inf)
    values = {tag: {p.step: p.value for p in points} for tag, points in tags.items() if points}
    return _Content(begun, values, damaged)


def _thinned(points: Sequence[tuple[int, float]], longest: int) -> Curve:
    """Evenly chosen points, the last one among them."""
    count = len(points)
    if count > longest:
        points = [points[(i + 1) * count // longest - 1] for i in range(longest)]
    steps, values = zip(*points, strict=True)
    return Curve(steps, values, count)
