"""Grids as tables: sheets of cells to show, text in several formats, CSV and JSON with all digits.

A grid is drawn as one sheet with the parts side by side, or as a sheet for each part.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pandas as pd
from tabulate import tabulate

from tools.results.frame import HM, UNANSWERED, Cell, Grid, Measure, ci95, std, together
from tools.results.published import Comparison, is_far, signed
from tools.results.reader import Run

TEXT_FORMATS = ("simple", "github", "latex")
ROWS = ("datasets", "trainers")
UNLIKE = "‡"
COLUMNS = [
    "protocol",
    "tree",
    "kind",
    "shots",
    "dataset",
    "trainer",
    "cfg",
    "backbone",
    "part",
    "metric",
    "difference_to",
    "mean",
    "std",
    "ci95",
    "seeds",
    "seeds_due",
    "seeds_missing",
    "state",
    "datasets",
    "published",
    "published_row",
    "difference_to_published",
    "far",
    "unlike",
]
_LATEX = {"±": r"$\pm$", "†": r"$\dagger$", UNLIKE: r"$\ddagger$"}
_MOST_LINES = 12


# ---- all digits: CSV and JSON


def as_csv(grids: Sequence[Grid], comparison: Comparison | None) -> str:
    """A line per cell and average; empty where there is nothing to say."""
    return cell_frame(grids, comparison).to_csv(index=False, lineterminator="\n").rstrip("\n")


def as_json(grids: Sequence[Grid], runs: Iterable[Run], comparison: Comparison | None) -> str:
    """{"cells": as in the CSV, "runs": what was found, "notes": what must be said}."""
    notes = dict.fromkeys(note for grid in grids for note in grid.notes)
    legend = comparison.legend(grids) if comparison else []
    content = {
        "cells": cell_frame(grids, comparison).to_dict("records"),
        "runs": [_run_row(run) for run in runs],
        "notes": [*notes, *legend],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _run_row(run: Run) -> dict[str, Any]:
    row = {name: value for name, value in vars(run).items() if name not in ("record", "settings")}
    return row | {
        name: None if row[name] is None else str(row[name]) for name in ("path", "source", "tree")
    }


def cell_frame(grids: Iterable[Grid], comparison: Comparison | None = None) -> pd.DataFrame:
    """A row per cell, then the averages: each over what is complete, and over what all share."""
    rows = []
    for grid in grids:
        columns = [(method, part) for method in grid.methods for part in grid.parts]
        for name in grid.datasets:
            for method, part in columns:
                cell = grid.cell(name, method, part)
                rows.append(_cell_row(grid, name, method, part, cell, comparison))
        for column in columns if len(grid.datasets) > 1 else ():
            averages = {"average": grid.complete(*column), "average in common": grid.common()}
            for label, over in averages.items():
                cell = grid.average(*column, over)
                row = _cell_row(grid, None, *column, cell, comparison)
                rows.append(row | {"dataset": label, "datasets": len(over)})
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def _cell_row(
    grid: Grid,
    dataset: str | None,
    method: str,
    part: str,
    cell: Cell,
    comparison: Comparison | None,
) -> dict[str, Any]:
    about, values = grid.about[method], list(cell.values.values())
    row = dict.fromkeys(COLUMNS) | {
        "protocol": grid.protocol,
        "tree": str(grid.tree),
        "kind": grid.kind,
        "shots": grid.shots_of(part),
        "dataset": dataset,
        "trainer": grid.minuends.get(method, method),
        "cfg": about.cfg,
        "backbone": about.backbone or None,
        "part": part if grid.protocol == "base2new" else None,
        "metric": grid.metric,
        "difference_to": grid.reference if method in grid.minuends else None,
        "mean": cell.mean,
        "std": std(values) if values else None,
        "ci95": ci95(values) if values else None,
        "seeds": len(values),
        "seeds_due": len(cell.due),
        "seeds_missing": " ".join(map(str, cell.lacking)) or None,
        "state": cell.state,
        "unlike": "; ".join(cell.unlike) or None,
    }
    published = comparison.find(grid, (dataset, method, part), cell) if comparison else None
    if published and cell.mean is not None:
        row |= {
            "published": published.value,
            "published_row": published.row,
            "difference_to_published": cell.mean - published.value,
            "far": is_far(cell, published),
        }
    return row


# ---- sheets


@dataclass(frozen=True)
class Style:
    """How tables look. Rows None: trainers where there is one dataset, else datasets."""

    measure: Measure = field(default_factory=Measure)
    format: str = "simple"
    rows: str | None = None
    comparison: Comparison | None = None  # with published numbers


@dataclass(frozen=True)
class Entry:
    """A cell and its text, with marks."""

    cell: Cell
    text: str


@dataclass(frozen=True)
class Sheet:
    """One table: frames of entries, the averages below the body or, where trainers are the rows,
    beside it; and the lines that explain the marks."""

    title: str
    body: pd.DataFrame
    averages: pd.DataFrame
    legend: list[str]
    by_trainer: bool


def sheets_of(grid: Grid, style: Style) -> list[Sheet]:
    """One sheet with all parts if the axis that is not the rows has one entry, else one a part."""
    rows = style.rows or ("trainers" if len(grid.datasets) == 1 else "datasets")
    by_trainer = rows == "trainers"
    others = grid.datasets if by_trainer else grid.methods
    groups = [grid.parts] if len(others) == 1 else [(part,) for part in grid.parts]
    return [_sheet(grid, style, parts, by_trainer) for parts in groups]


def _sheet(grid: Grid, style: Style, parts: tuple[str, ...], by_trainer: bool) -> Sheet:
    columns = [(method, part) for method in grid.methods for part in parts]
    usual = usual_seeds(grid, parts)
    body = pd.DataFrame(
        {c: [_entry(grid, style, (name, *c), usual) for name in grid.datasets] for c in columns},
        index=list(grid.datasets),
        dtype=object,
    )
    averages, differ = _averages(grid, style, columns)
    title, legend = _title(grid, parts, by_trainer, usual), _legend(grid, parts, differ, usual)
    wide = by_trainer and len(grid.datasets) > 1
    if by_trainer and not wide:
        cells = [[body.iloc[0][method, part] for part in parts] for method in grid.methods]
        body = pd.DataFrame(cells, index=list(grid.methods), columns=list(parts), dtype=object)
        return Sheet(title, body, body.iloc[:, :0], legend, True)
    names = list(parts) if len(grid.methods) == 1 and not wide else list(grid.methods)
    body.columns = averages.columns = names
    if wide:
        body, averages = body.T, averages.T
    return Sheet(title, body, averages, legend, by_trainer)


def usual_seeds(grid: Grid, parts: Iterable[str]) -> int:
    """The number of seeds due in most cells, the larger one of two that are as common."""
    places = [(n, m, p) for n in grid.datasets for m in grid.methods for p in parts]
    counts = Counter(len(grid.cell(*place).due) for place in places)
    counts.pop(0, None)
    return max(counts, key=lambda due: (counts[due], due), default=0)


def _entry(grid: Grid, style: Style, place: tuple[str, str, str], usual: int) -> Entry:
    """`81.23 ± 0.45`, with the number of seeds behind it when that is not the usual one."""
    cell = grid.cell(*place)
    if cell.mean is None:
        is_plain = place[2] == HM or cell.state == UNANSWERED
        return Entry(cell, "-" if is_plain else f"{cell.state}*")
    text = _number(grid, style, place, cell)
    if not cell.complete:
        return Entry(cell, f"{text} ({len(cell.values)}/{len(cell.due)})*")
    return Entry(cell, text if len(cell.due) == usual else f"{text} ({len(cell.due)})")


def _number(grid: Grid, style: Style, place: tuple[str | None, str, str], cell: Cell) -> str:
    """A lone seed has no spread."""
    text = signed(cell.mean) if place[1] in grid.minuends else f"{cell.mean:.2f}"
    spread = cell.spread(style.measure)
    if spread is not None:
        text += f" ± {spread:.2f}"
    text += UNLIKE * bool(cell.unlike)
    return text + (style.comparison.beside(grid, place, cell) if style.comparison else "")


def _averages(
    grid: Grid, style: Style, columns: list[tuple[str, str]]
) -> tuple[pd.DataFrame, bool]:
    """Rows of averages, none for one dataset, and whether they are over different datasets."""
    count = len(grid.datasets)
    if count == 1:
        return pd.DataFrame(columns=columns), False

    def row(over_of: Callable[[tuple[str, str]], list[str]], mark: bool = False) -> list[Entry]:
        return [_average(grid, style, column, over_of(column), mark) for column in columns]

    over = {column: grid.complete(*column) for column in columns}
    differ = len({tuple(names) for names in over.values()}) > 1
    if differ:
        common = [name for name in grid.datasets if all(name in names for names in over.values())]
        rows = {
            "Average": row(over.__getitem__, mark=True),
            f"Average of {len(common)} in common": row(lambda _: common),
        }
    else:
        size = len(over[columns[0]])
        rows = {"Average" if size == count else f"Average of {size}/{count}": row(over.__getitem__)}
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object), differ


def _average(
    grid: Grid, style: Style, column: tuple[str, str], over: list[str], mark: bool
) -> Entry:
    cell = grid.average(*column, over)
    text = "-" if cell.mean is None else _number(grid, style, (None, *column), cell)
    short = mark and len(over) < len(grid.datasets)
    return Entry(cell, text + f" ({len(over)}/{len(grid.datasets)})†" * short)


def _title(grid: Grid, parts: tuple[str, ...], by_trainer: bool, usual: int) -> str:
    words = []
    if not by_trainer and len(grid.methods) == 1:
        words.append(grid.methods[0])
    if by_trainer and len(grid.datasets) == 1:
        words.append(grid.datasets[0])
    words.append(grid.title)
    if len(parts) == 1 and parts[0] != grid.metric:
        words.append(parts[0])
    seeds = f"({usual} seed{'s' if usual != 1 else ''})"
    return f"{', '.join(word for word in words if word)} {seeds}"


def _legend(grid: Grid, parts: tuple[str, ...], averages_differ: bool, usual: int) -> list[str]:
    lines = []
    consequence = ", left out of the average" if len(grid.datasets) > 1 else ""
    if listed := _incomplete(grid, parts):
        lines.append(f"* incomplete{consequence}: {listed}")
    if averages_differ:
        lines.append("(k/n)†: over k of n data sets, not those of the others: see those in common")
    cells = [cell for (_, _, part), cell in grid.cells.items() if part in parts]
    if any(cell.state == UNANSWERED for cell in cells):
        lines.append("-: learned by example, the method knows the classes of training alone")
    if any(cell.complete and len(cell.due) != usual for cell in cells):
        lines.append(f"(n): mean of n seeds instead of {usual}")
    return lines + unlike_lines(grid, parts)


def _incomplete(grid: Grid, parts: tuple[str, ...]) -> str:
    """The datasets that lack something, with the methods that lack them if not all do."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for method in grid.methods:
        complete = set.intersection(*(set(grid.complete(method, part)) for part in parts))
        names = tuple(name for name in grid.datasets if name not in complete)
        lacking.setdefault(names, []).append(method)
    lacking.pop((), None)
    if len(grid.datasets) == 1:
        return ", ".join(method for methods in lacking.values() for method in methods)
    return "; ".join(
        f"{', '.join(methods)}: " * (len(methods) < len(grid.methods)) + ", ".join(names)
        for names, methods in lacking.items()
    )


def unlike_lines(grid: Grid, parts: Iterable[str]) -> list[str]:
    """What is unlike in which cells, a line for each difference."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for name in grid.datasets:
        for method in grid.methods:
            for text in together(*(grid.cell(name, method, part) for part in parts)):
                found.setdefault(text, {}).setdefault(name, {})[method] = None
    lines = []
    for text, where in found.items():
        named = "; ".join(f"{name} ({', '.join(methods)})" for name, methods in where.items())
        lines.append(f"{UNLIKE} {named}: {text}")
    more = len(lines) - _MOST_LINES
    return lines if more < 2 else [*lines[:_MOST_LINES], f"{UNLIKE} and {more} more: --format json"]


# ---- text


def draw_grids(grids: Iterable[Grid], style: Style) -> str:
    """All tables, tree by tree, each tree with a heading and what must be said about it."""
    texts = []
    for (protocol, tree), group in groupby(grids, lambda grid: (grid.protocol, grid.tree)):
        members = list(group)
        heading = f"{'##' if style.format == 'github' else '#'} {protocol}: {tree}"
        texts.append(_beside(style, [heading]) + "\n" + _beside(style, [style.measure.caption]))
        texts += [draw_sheet(sheet, style) for grid in members for sheet in sheets_of(grid, style)]
        notes = [f"note: {note}" for note in dict.fromkeys(n for g in members for n in g.notes)]
        notes += style.comparison.legend(members) if style.comparison else []
        if notes:
            texts.append(_beside(style, notes))
    return "\n\n".join(texts)


def draw_sheet(sheet: Sheet, style: Style) -> str:
    """Title, table, and the lines that explain its marks."""
    frame = pd.concat([sheet.body, sheet.averages], axis=1 if sheet.by_trainer else 0)
    drawn = tabulate(
        frame.map(lambda entry: entry.text),
        headers="keys",
        tablefmt=style.format,
        disable_numparse=True,
        colalign=["left"] + ["right"] * len(frame.columns),
    )
    if style.format == "latex":
        drawn = "".join(_LATEX.get(sign, sign) for sign in drawn)
    lines = [_beside(style, [sheet.title], strong=True), drawn]
    if sheet.legend:  # a line right below would be a row of Markdown's
        lines += [""] * (style.format == "github") + [_beside(style, sheet.legend)]
    return "\n".join(lines)


def _beside(style: Style, lines: list[str], strong: bool = False) -> str:
    """Lines beside a table: comments in LaTeX, paragraphs in Markdown."""
    if style.format == "latex":
        return "\n".join(f"% {line}" for line in lines)
    if style.format == "github":
        marked = (f"**{line}**" if strong else line.replace("*", r"\*") for line in lines)
        return "\n\n".join(marked) + "\n" * strong
    return "\n".join(lines)
