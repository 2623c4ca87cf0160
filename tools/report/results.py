"""Grids of results as tables of the page, and those of few-shot as curves."""

from collections.abc import Sequence

from tools.report.elements import Cell, Table, name_cell
from tools.report.plots import ShotCurve
from tools.results import Grid, Measure
from tools.results.frame import Cell as Result
from tools.results.tables import UNLIKE, unlike_lines

PROTOCOLS = {
    "base2new": "Base-to-new",
    "few_shot": "Few-shot",
    "cross_dataset": "Cross-dataset",
}


def tables(grid: Grid, measure: Measure) -> list[Table]:
    """Methods by parts, and of several data sets, too, data sets by methods for each part.

    HM comes before base and new, many shots before few.
    """
    ordered = ["HM", "base", "new"] if "HM" in grid.parts else list(reversed(grid.parts))
    several = len(grid.datasets) > 1
    overview = [_overview(grid, measure)] if len(ordered) > 1 or not several else []
    return overview + [_table(grid, part, measure) for part in ordered if several]


def _overview(grid: Grid, measure: Measure) -> Table:
    """Methods as rows, parts as columns: the one data set, or averages over all of them."""
    usual, one = _usual(grid), len(grid.datasets) == 1
    common = grid.common()
    rows = []
    for method in grid.methods:
        cells = [
            _cell(grid.cell(grid.datasets[0], method, part), measure, usual)
            if one
            else _average(grid, method, part, common or grid.complete(method, part), common)
            for part in grid.parts
        ]
        rows.append([name_cell(method), *cells])
    what = grid.datasets[0] if one else f"Average over {_compared(grid)}"
    title = ", ".join(filter(None, (what, grid.title)))
    notes = _notes(grid, grid.parts[-1]) if one else []
    notes += unlike_lines(grid, grid.parts)
    header = ["method", *grid.parts]
    return Table(f"{title} ({_seeds(usual)})", header, _best_of_columns(rows, measure), notes=notes)


def _compared(grid: Grid) -> str:
    """Over which data sets methods are compared: all, or else those that all have completed."""
    count, common = len(grid.datasets), len(grid.common())
    if common in (0, count):
        return f"{count} data sets"
    return f"{common} of {count} data sets, those that all methods completed"


def _best_of_columns(rows: list[list[Cell]], measure: Measure) -> list[list[Cell]]:
    columns = [_mark_best(list(c), measure) for c in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def _table(grid: Grid, part: str, measure: Measure) -> Table:
    usual = _usual(grid)
    rows = [
        [name_cell(name), *(_cell(grid.cell(name, m, part), measure, usual) for m in grid.methods)]
        for name in grid.datasets
    ]
    title = ", ".join(filter(None, (_heading(part, measure), grid.title)))
    return Table(
        f"{title} ({_seeds(usual)})",
        ["data set", *grid.methods],
        [_mark_best(row, measure) for row in rows],
        [_mark_best(row, measure) for row in _averages(grid, part)],
        _notes(grid, part) + unlike_lines(grid, (part,)),
    )


def _heading(part: str, measure: Measure) -> str:
    if part == measure.metric:
        return part.capitalize()
    names = {"HM": "Harmonic mean (HM) of base and new", "base": "Base classes"}
    return names.get(part, "New classes" if part == "new" else part)


def _cell(result: Result, measure: Measure, usual: int) -> Cell:
    """Mean ± spread; with its number of seeds when that is not the usual one."""
    if result.mean is None:
        return Cell(result.state, None, "missing")
    spread = result.spread(measure)
    text = f"{result.mean:.2f}" + (f" ± {spread:.2f}" if spread is not None else "")
    hint = ", ".join(f"seed {seed}: {value:.2f}" for seed, value in result.values.items())
    text, kind, hint = _marked(result, text, hint)
    if result.complete:
        note = f" ({len(result.due)})" if len(result.due) != usual else ""
        return Cell(text + note, result.mean, kind, hint)
    lacking = ", ".join(map(str, result.lacking)) or "see base and new"
    share = f" ({len(result.values)}/{len(result.due)})"
    return Cell(text + share, result.mean, "partial", f"{hint}; lacking: {lacking}")


def _marked(result: Result, text: str, hint: str) -> tuple[str, str, str]:
    """Text, kind and hint of a number, which may be one of unlike runs."""
    if not result.unlike:
        return text, "", hint
    return text + UNLIKE, "partial", f"{hint}; not alike: {'; '.join(result.unlike)}"


def _usual(grid: Grid) -> int:
    """The number of seeds due in most cells."""
    due = [len(cell.due) for cell in grid.cells.values() if cell.due]
    return max(due, key=lambda count: (due.count(count), count), default=0)


def _averages(grid: Grid, part: str) -> list[list[Cell]]:
    """Over the data sets that each method completed and, if they are not the same for all, over
    those that all completed.
    """
    if len(grid.datasets) < 2:
        return []
    own = [grid.complete(method, part) for method in grid.methods]
    rows = [
        [
            name_cell("Average"),
            *(_average(grid, m, part, o) for m, o in zip(grid.methods, own, strict=True)),
        ]
    ]
    common = [name for name in grid.datasets if all(name in names for names in own)]
    if common and any(len(names) > len(common) for names in own):
        count = f"{len(common)} data set{'s' if len(common) > 1 else ''}"
        cells = [_average(grid, m, part, common, common) for m in grid.methods]
        rows.append([name_cell(f"Average over the {count} that all have"), *cells])
    return rows


def _average(
    grid: Grid, method: str, part: str, over: Sequence[str], common: Sequence[str] = ()
) -> Cell:
    """Marked when it is over fewer data sets than other averages that stand beside it."""
    average = grid.average(method, part, over) if over else None
    if average is None or average.mean is None:
        return Cell("-", None, "missing")
    text, kind, hint = _marked(average, f"{average.mean:.2f}", f"over {', '.join(over)}")
    if len(over) == len(grid.datasets) or list(over) == common:
        return Cell(text, average.mean, kind, hint)
    return Cell(f"{text} ({len(over)}/{len(grid.datasets)})", average.mean, "partial", hint)


def _mark_best(row: list[Cell], measure: Measure) -> list[Cell]:
    """Emphasise the best of the complete numbers that are compared, if there are several."""
    numbers = [cell.value for cell in row if not cell.kind and isinstance(cell.value, float)]
    if len(numbers) < 2:
        return row
    best = min(numbers) if measure.metric == "error" else max(numbers)
    return [c._replace(kind="best") if not c.kind and c.value == best else c for c in row]


def _notes(grid: Grid, part: str) -> list[str]:
    lacking = [
        f"{name} ({', '.join(methods)})"
        for name in grid.datasets
        if (methods := [m for m in grid.methods if name not in grid.complete(m, part)])
    ]
    notes = list(grid.notes)
    if lacking:
        average = " and left out of that method's average" if len(grid.datasets) > 1 else ""
        notes.append(f"Incomplete{average}: {'; '.join(lacking)}.")
    return notes


def shot_curves(grid: Grid, measure: Measure) -> dict[str, list[ShotCurve]]:
    """Panel -> a curve per method: the average if there are several data sets, then each of them.

    grid: of few-shot runs. The average is over data sets that are complete for every method at
    every number of shots at which it was run. Shots below 1 are no place on the axis.
    """
    panels = {
        name: {(m, p): grid.cell(name, m, p) for m in grid.methods for p in grid.parts}
        for name in grid.datasets
    }
    pairs = [(m, p) for m in grid.methods for p in grid.parts]
    tried = [
        pair for pair in pairs if any(cells[pair].mean is not None for cells in panels.values())
    ]
    over = [name for name, cells in panels.items() if all(cells[pair].complete for pair in tried)]
    if len(grid.datasets) > 1 and over:
        share = "" if len(over) == len(grid.datasets) else f" of {len(over)}/{len(grid.datasets)}"
        average = {pair: grid.average(*pair, over) for pair in tried}
        panels = {f"Average{share}": average} | panels
    return {
        title: [_curve(grid, cells, i, measure) for i in range(len(grid.methods))]
        for title, cells in panels.items()
    }


def _curve(
    grid: Grid, cells: dict[tuple[str, str], Result], number: int, measure: Measure
) -> ShotCurve:
    method = grid.methods[number]
    points = [
        (shots, cell.mean, cell.spread(measure) or 0.0)
        for part in grid.parts
        for shots in [int(part.partition(" ")[0])]
        for cell in [cells.get((method, part))]
        if shots > 0 and cell is not None and cell.mean is not None
    ]
    shots, means, spreads = zip(*sorted(points), strict=True) if points else ((), (), ())
    return ShotCurve(method, number, shots, means, spreads)
