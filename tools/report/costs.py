"""What training cost: parameters, time and memory of every method."""

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any

from common.formats import clock
from tools.report.elements import Cell, Table, name_cell, text_cell

Record = Mapping[str, Any]


def number(record: Record, *path: str) -> float | None:
    """A finite number of a record, or None where it is absent or something else."""
    value: object = record
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and math.isfinite(value) else None


def memory(size: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def count(value: float) -> str:
    return f"{value:,.0f}"


# heading, unit, where it stands in a record, and whether only runs that train have it
COLUMNS: tuple[tuple[str, Callable[[float], str], tuple[str, ...], bool], ...] = (
    ("parameters", count, ("parameters",), False),
    ("training", clock, ("train_seconds",), True),
    ("whole run", clock, ("seconds",), True),
    ("train images/s", count, ("images_per_second", "train"), True),
    ("test images/s", count, ("images_per_second", "test"), False),
    ("peak memory", memory, ("peak_memory_bytes",), True),
)


def cost_table(records: Iterable[tuple[str, str, Record]]) -> Table:
    """A row per protocol, method and device. `records`: (protocol, method, record) of each run."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for protocol, method, record in records:
        device = str(record.get("device") or "–")
        groups.setdefault((protocol, method, device), []).append(record)
    rows = [
        [
            name_cell(method),
            text_cell(protocol),
            text_cell(device),
            Cell(str(len(members)), len(members)),
            *(_spread_cell(members, *column[1:]) for column in COLUMNS),
        ]
        for (protocol, method, device), members in sorted(groups.items())
    ]
    header = ["method", "protocol", "device", "runs", *(column[0] for column in COLUMNS)]
    return Table("", header, rows)


def _spread_cell(
    records: list[Record], form: Callable[[float], str], path: tuple[str, ...], trained: bool
) -> Cell:
    """Median, and below it lowest – highest, over the runs that recorded it."""
    chosen = [r for r in records if not (trained and r.get("eval_only"))]
    values = [value for r in chosen if (value := number(r, *path)) is not None]
    if not values:
        return Cell("–", None, "missing", "not recorded")
    low, middle, high = form(min(values)), form(median(values)), form(max(values))
    text = middle if low == high else f"{middle}\n{low} – {high}"
    hint = f"{len(values)} of {len(chosen)} runs recorded it"
    return Cell(text, median(values), "lines", hint)
