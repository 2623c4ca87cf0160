"""The sections of the page: results, cost, settings, environment, runs; and what to know first."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from common.formats import clock
from run.flat import EARLIER, INCIDENTAL
from tools.report.page import Cell, Page, Section, Table, name_cell, text_cell
from tools.report.plots import Plots, shots_figures
from tools.report.selection import Choice, detail_section
from tools.results import Grid, Measure, Run, grids_of, methods_of
from tools.results.layout import natural_key
from tools.results.tables import Entry, Sheet, Style, sheets_of, unlike_lines

PROTOCOLS = {
    "base2new": "Base-to-new",
    "few_shot": "Few-shot",
    "cross_dataset": "Cross-dataset",
}
SORTING = "A click on a column's name sorts by it. Bold: the best of a row, among complete cells."
PLANNED = INCIDENTAL | {  # settings that are the axes of the tables themselves
    *("SEED", "TRAINER.NAME", "DATASET.NAME", "DATASET.PATH"),
    *("DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES", "TASK"),
}


@dataclass(frozen=True)
class Report:
    """What to report on: the runs below `root`, and how."""

    root: Path
    runs: list[Run]
    measure: Measure
    choice: Choice

    def path(self, run: Run) -> str:
        """A run's path below the root."""
        return run.path.name if run.path == self.root else str(run.path.relative_to(self.root))

    def trees(self) -> dict[tuple[str, Path], list[Run]]:
        """The runs of every tree, by (protocol, tree)."""
        placed = [run for run in self.runs if run.protocol]
        placed.sort(key=lambda run: (list(PROTOCOLS).index(run.protocol), str(run.tree)))
        groups = groupby(placed, key=lambda run: (run.protocol, run.tree))
        return {place: list(members) for place, members in groups}

    def title(self, protocol: str, tree: Path) -> str:
        """The protocol's name, and the tree where there are several of that protocol."""
        several = sum(other == protocol for other, _ in self.trees()) > 1
        return f"{PROTOCOLS[protocol]}: {tree}" if several else PROTOCOLS[protocol]


def build(report: Report, plots: Plots) -> tuple[Page, list[str]]:
    """The page, and the files that could not be read."""
    grids = grids_of(report.runs, report.measure.metric)
    sections = [_results(report, grids, *place, plots) for place in report.trees()]
    details, damaged = detail_section(report.runs, report.path, report.choice, plots)
    environment = _environment(report)
    sections += [
        *([details] if details.runs or details.texts else []),
        _costs(report),
        _settings(report),
        environment,
        Section("All runs", tables=[_run_table(report)]),
    ]
    unequal = [row[0].text for row in environment.tables[0].rows if row[1].kind == "differs"]
    complete = sum(run.complete for run in report.runs)
    page = Page(
        title=f"Results in {report.root.resolve().name}",
        summary=f"{_count(len(report.runs), 'run')}, {complete:,} complete. "
        f"{_capital(report.measure.caption)}.",
        notices=_notices(report, grids, damaged, unequal),
        sections=sections,
        footer=f"Made {datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by python -m tools.report",
    )
    return page, damaged


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' if number != 1 else ''}"


def _notices(
    report: Report, grids: list[Grid], damaged: list[str], unequal: list[str]
) -> list[tuple[str, list[str]]]:
    """What makes the tables less than they seem."""
    runs, path = report.runs, report.path
    unlike = dict.fromkeys(line for grid in grids for line in unlike_lines(grid, grid.parts))
    stray = [f"{path(r)}{f': {r.astray}' if r.astray else ''}" for r in runs if not r.protocol]
    found = [
        (
            *("run", "not complete; nothing of them is averaged"),
            [f"{path(run)}: {run.state}, {run.reason}" for run in runs if not run.complete],
        ),
        ("run", "outside of every protocol's folders and in no table of results", stray),
        ("reason", "why numbers are marked ‡", list(unlike)),
        (
            *("note", "with files that contradict each other or are damaged"),
            [f"{path(run)}: {note}" for run in runs for note in run.notes],
        ),
        ("file", "that could not be read", damaged),
        ("part", "of the environment not the same in all runs", unequal),
    ]
    return [(f"{_count(len(items), thing)} {text}", items) for thing, text, items in found if items]


# ---- results


def _results(report: Report, grids: list[Grid], protocol: str, tree: Path, plots: Plots) -> Section:
    """Tables of one tree; of few-shot runs the curves, too."""
    own = [grid for grid in grids if (grid.protocol, grid.tree) == (protocol, tree)]
    measure, title = report.measure, report.title(protocol, tree)
    drawn = [
        _result_table(grid, sheet, measure)
        for grid in own
        for sheet in sheets_of(grid, Style(measure))
    ]
    texts = [f"{_capital(measure.caption)}. {SORTING}"]
    texts += dict.fromkeys(note for grid in own for note in grid.notes)
    figures = []
    if protocol == "few_shot":
        figures = [
            plots.draw(f"{title} {name}: {measure.metric} in % against shots", figure)
            for name, figure in shots_figures(own[0], measure).items()
        ]
        spread = "95% interval" if measure.ci95 else "standard deviation"
        texts.append(f"Bands: {spread} over seeds.")
    return Section(title, texts, figures, drawn)


def _result_table(grid: Grid, sheet: Sheet, measure: Measure) -> Table:
    body, last = (
        [[name_cell(name), *map(_cell, row)] for name, *row in frame.itertuples()]
        for frame in (sheet.body, sheet.averages)
    )
    if sheet.by_trainer:
        columns = [_mark_best(list(column), measure) for column in zip(*body, strict=True)]
        body = [list(row) for row in zip(*columns, strict=True)]
    elif len(grid.methods) > 1:
        body, last = ([_mark_best(row, measure) for row in rows] for rows in (body, last))
    header = ["method" if sheet.by_trainer else "data set", *sheet.body.columns]
    return Table(sheet.title, header, body, last, sheet.legend)


def _cell(entry: Entry) -> Cell:
    cell = entry.cell
    if cell.mean is None:
        return Cell(entry.text, None, "missing")
    hint = [f"seed {seed}: {value:.2f}" for seed, value in cell.values.items()]
    hint += [f"over {', '.join(cell.over)}"] * bool(cell.over)
    hint += [f"lacking: {', '.join(map(str, cell.lacking))}"] * bool(cell.lacking)
    hint += [f"not alike: {text}" for text in cell.unlike]
    marked = not cell.complete or cell.unlike or "†" in entry.text
    return Cell(entry.text, cell.mean, "partial" if marked else "", "; ".join(hint))


def _mark_best(row: list[Cell], measure: Measure) -> list[Cell]:
    """Emphasize the best of the complete numbers that are compared, if there are several."""
    numbers = [cell.value for cell in row if not cell.kind and isinstance(cell.value, float)]
    if len(numbers) < 2:
        return row
    best = min(numbers) if measure.metric == "error" else max(numbers)
    return [c._replace(kind="best") if not c.kind and c.value == best else c for c in row]


# ---- cost


Record = Mapping[str, Any]


def _number(record: Record, *path: str) -> float | None:
    """A finite number of a record, or None where it is absent or something else."""
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and math.isfinite(value) else None


def _memory(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


# heading, unit, where it stands in a record, and whether only runs that train have it
COSTS: tuple[tuple[str, Callable[[float], str], tuple[str, ...], bool], ...] = (
    ("parameters", "{:,.0f}".format, ("parameters",), False),
    ("training", clock, ("train_seconds",), True),
    ("whole run", clock, ("seconds",), True),
    ("train images/s", "{:,.0f}".format, ("images_per_second", "train"), True),
    ("test images/s", "{:,.0f}".format, ("images_per_second", "test"), False),
    ("peak memory", _memory, ("peak_memory_bytes",), True),
)


def _costs(report: Report) -> Section:
    """A row per protocol, method and device."""
    rows = [
        (label, PROTOCOLS[protocol], str(run.record.get("device") or "–"), run)
        for (protocol, _), members in report.trees().items()
        for label, own in methods_of(members).runs.items()
        for run in own
        if run.record
    ]
    if not rows:
        return Section(
            "Cost", ["No run in a protocol's folders recorded parameters, time or memory."]
        )
    text = (
        "Trained parameters, time and peak memory (of the GPU; without one of the whole process): "
        "median over runs, below it lowest – highest. Times depend on data set and shots: compare "
        "methods that were run on the same ones. –: not recorded."
    )
    keys = ["method", "protocol", "device"]
    frame = pd.DataFrame(rows, columns=[*keys, "run"])
    drawn = [
        [name_cell(method), text_cell(protocol), text_cell(device), Cell(str(len(own)), len(own))]
        + [_spread_cell([run.record for run in own.run], *column[1:]) for column in COSTS]
        for (method, protocol, device), own in frame.groupby(keys)
    ]
    header = [*keys, "runs", *(column[0] for column in COSTS)]
    return Section("Cost", [text], tables=[Table("", header, drawn)])


def _spread_cell(
    records: list[Record],
    form: Callable[[float], str],
    path: tuple[str, ...],
    trained: bool,
) -> Cell:
    """Median, and below it lowest – highest, over the runs that recorded it."""
    chosen = [record for record in records if not (trained and record.get("eval_only"))]
    values = pd.Series([_number(record, *path) for record in chosen], dtype=float).dropna()
    if values.empty:
        return Cell("–", None, "missing", "not recorded")
    low, middle, high = form(values.min()), form(values.median()), form(values.max())
    text = middle if low == high else f"{middle}\n{low} – {high}"
    hint = f"{len(values)} of {len(chosen)} runs recorded it"
    return Cell(text, float(values.median()), "lines", hint)


# ---- settings that differ


def _settings(report: Report) -> Section:
    """For each tree the keys that differ between methods, or along datasets and shots."""
    drawn = []
    for (protocol, tree), members in report.trees().items():
        methods = methods_of(members).runs
        found = differing(methods)
        rows = [
            [name_cell(key), *(text_cell(values.get(name, "–")) for name in methods)]
            for key, values in found.items()
        ]
        if rows:
            drawn.append(Table(report.title(protocol, tree), ["setting", *methods], rows))
    texts = ["Settings that are the same everywhere are left out."]
    if lacking := sum(not run.settings for run in report.runs):
        texts.append(f"Of {lacking:,} of {len(report.runs):,} runs no file says the settings.")
    if not drawn:
        texts.append("Nothing differs between runs that are compared.")
    return Section("Settings that differ", texts, tables=drawn)


def differing(methods: Mapping[str, Iterable[Run]]) -> dict[str, dict[str, str]]:
    """{key: {method: value}} for every setting that is not the same in all runs.

    A key that a single method has, such as one of its own, counts only when its value varies
    there. Where it varies within a method, the text says along what.
    """
    rows = [(label, run) for label, own in methods.items() for run in own if run.settings]
    frame = pd.DataFrame([EARLIER | dict(run.settings) for _, run in rows], dtype=object)
    found: dict[str, dict[str, str]] = {}
    for key in sorted(frame.columns[frame.nunique() > 1].difference(list(PLANNED))):
        stated = frame[key].dropna()
        by_method = stated.groupby([rows[i][0] for i in stated.index], sort=False)
        found[key] = {
            label: _along([(rows[i][1], value) for i, value in own.items()])
            for label, own in by_method
        }
    return found


def _along(pairs: list[tuple[Run, str]]) -> str:
    """`0.5`; `0.5 (caltech101, dtd), 4 (eurosat)`; or values with their numbers of runs."""
    values = sorted({value for _, value in pairs}, key=natural_key)
    shown = {value: value if value not in ("", "None") else "(none)" for value in values}
    if len(values) == 1:
        return shown[values[0]]
    for axis in ("dataset", "shots", "split"):
        places: dict[object, set[str]] = {}
        for run, value in pairs:
            places.setdefault(getattr(run, axis), set()).add(value)
        if all(len(found) == 1 for found in places.values()):
            where = {v: [str(p) for p, found in places.items() if v in found] for v in values}
            return ", ".join(f"{shown[value]} ({', '.join(where[value])})" for value in values)
    counts = {value: sum(other == value for _, other in pairs) for value in values}
    return ", ".join(f"{shown[value]} ({count} runs)" for value, count in counts.items())


# ---- environment, runs


def _environment(report: Report) -> Section:
    """Versions, commit, device and backbone: a row per key, its values with their runs."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in report.runs:
        versions = run.record.get("versions")
        keys = {key: run.record.get(key) for key in ("commit", "device", "backbone")}
        keys |= versions if isinstance(versions, Mapping) else {}
        for key, value in keys.items() if run.record else ():
            text = "not recorded" if value is None else str(value)
            found.setdefault(str(key), {}).setdefault(text, []).append(report.path(run))
    rows = [[name_cell(key), _values_cell(values)] for key, values in found.items()]
    texts = ["Versions, commit and device of each run; what is not the same in all runs is marked."]
    if lacking := sum(not run.record for run in report.runs):
        texts.append(f"{lacking:,} of {len(report.runs):,} runs have no `results.json` to say so.")
    return Section("Environment", texts, tables=[Table("", ["what", "value"], rows)])


def _values_cell(values: dict[str, list[str]]) -> Cell:
    ordered = sorted(values.items(), key=lambda item: -len(item[1]))
    if len(ordered) == 1:
        return text_cell(ordered[0][0])
    text = "; ".join(f"{value} ({len(runs):,} runs)" for value, runs in ordered)
    return Cell(text, text, "differs", f"{ordered[-1][0]}: {', '.join(ordered[-1][1][:3])}")


def _run_table(report: Report) -> Table:
    metric = report.measure.metric
    missing = Cell("-", None, "missing")
    rows = []
    for run in report.runs:
        value, seconds = run.metrics.get(metric), _number(run.record, "seconds")
        state = "text" if run.complete else "differs"
        rows.append(
            [
                name_cell(report.path(run)),
                Cell(run.state, run.state, state, run.reason or ""),
                missing if value is None else Cell(f"{value:.2f}", value),
                missing if seconds is None else Cell(clock(seconds), seconds),
            ]
        )
    return Table("", ["run", "state", f"{metric} in %", "time"], rows)
