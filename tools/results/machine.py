"""Grids and runs for other programs: CSV and JSON, with all digits."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from tools.results.aggregate import ci95, std
from tools.results.cells import Cell
from tools.results.grids import Grid
from tools.results.published import Comparison, is_far
from tools.results.runs import Run

AVERAGE, COMMON = "average", "average in common"


def as_csv(grids: Sequence[Grid], comparison: Comparison | None) -> str:
    """A line per cell and average; empty where there is nothing to say."""
    lines = cell_rows(grids, comparison)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(_row_of_nothing()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue().rstrip("\n")


def as_json(grids: Sequence[Grid], runs: Iterable[Run], comparison: Comparison | None) -> str:
    """{"cells": as in the CSV, "runs": what was found, "notes": what must be said}."""
    notes = dict.fromkeys(note for grid in grids for note in grid.notes)
    legend = comparison.legend(grids) if comparison else []
    content = {
        "cells": cell_rows(grids, comparison),
        "runs": [_run_row(run) for run in runs],
        "notes": [*notes, *legend],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def cell_rows(grids: Iterable[Grid], comparison: Comparison | None) -> list[dict[str, Any]]:
    """One dict per cell, then the averages: each over what is complete, and over what all share."""
    rows = []
    for grid in grids:
        columns = [(method, part) for method in grid.methods for part in grid.parts]
        places = [(name, *column) for name in grid.datasets for column in columns]
        rows += [_cell_row(grid, place, grid.cell(*place), comparison) for place in places]
        if len(grid.datasets) > 1:
            common = grid.common()
            for column in columns:
                for label, over in ((AVERAGE, grid.complete(*column)), (COMMON, common)):
                    cell = grid.average(*column, over)
                    rows.append(_cell_row(grid, (None, *column), cell, comparison, label))
    return rows


def _row_of_nothing() -> dict[str, Any]:
    names = (
        "protocol tree kind shots dataset trainer cfg backbone part metric difference_to mean std "
        "ci95 seeds seeds_due seeds_missing state datasets published published_row "
        "difference_to_published far unlike"
    )
    return dict.fromkeys(names.split())


def _cell_row(
    grid: Grid,
    place: tuple[str | None, str, str],
    cell: Cell,
    comparison: Comparison | None,
    label: str = "",
) -> dict[str, Any]:
    dataset, method, part = place
    about = grid.about.get(method)
    shots = int(part.split()[0]) if grid.protocol == "few_shot" else grid.shots
    values = list(cell.values.values())
    reference = getattr(grid, "reference", None) if grid.is_difference(method) else None
    row = _row_of_nothing() | {
        "protocol": grid.protocol,
        "tree": str(grid.tree),
        "kind": grid.kind,
        "shots": shots,
        "dataset": dataset or label,
        "trainer": grid.pairs[method][0] if reference else method,
        "cfg": about.cfg if about else None,
        "backbone": (about.backbone or None) if about else None,
        "part": part if grid.protocol == "base2new" else None,
        "metric": grid.metric,
        "difference_to": reference,
        "mean": cell.mean,
        "std": std(values) if values else None,
        "ci95": ci95(values) if values else None,
        "seeds": len(values),
        "seeds_due": len(cell.due),
        "seeds_missing": " ".join(map(str, cell.lacking)) or None,
        "state": cell.state,
        "datasets": None if dataset else len(cell.over),
        "unlike": "; ".join(cell.unlike) or None,
    }
    published = comparison.find(grid, place, cell) if comparison else None
    if published and cell.mean is not None:
        row |= {
            "published": published.value,
            "published_row": published.row,
            "difference_to_published": cell.mean - published.value,
            "far": is_far(cell, published),
        }
    return row


def _run_row(run: Run) -> dict[str, Any]:
    row = {name: value for name, value in vars(run).items() if name not in ("record", "settings")}
    return row | {
        name: None if row[name] is None else str(row[name]) for name in ("path", "source", "tree")
    }
