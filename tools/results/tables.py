"""Draws grids as text: one table with the parts side by side, or a table for each part."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from tabulate import tabulate

from tools.results.cells import Cell, Measure, signed, together
from tools.results.grids import HM, Grid, Place
from tools.results.published import Comparison

TEXT_FORMATS = ("simple", "github", "latex")
ROWS = ("datasets", "trainers")
UNLIKE = "‡"
_MOST_LINES = 12


@dataclass(frozen=True)
class Style:
    """How tables look. Rows None: trainers where there is one data set, else data sets."""

    measure: Measure = field(default_factory=Measure)
    format: str = "simple"
    rows: str | None = None
    comparison: Comparison | None = None  # with published numbers


@dataclass(frozen=True)
class Sheet:
    """One table of a grid: which methods and parts it shows, and whether trainers are its rows."""

    grid: Grid
    style: Style
    parts: tuple[str, ...]
    by_trainer: bool

    @property
    def columns(self) -> list[tuple[str, str]]:
        """(method, part) of everything that has an average of its own."""
        return [(method, part) for method in self.grid.methods for part in self.parts]

    @property
    def usual(self) -> int:
        """The number of seeds due in most cells, the larger one of two that are as common."""
        counts = Counter(len(self.grid.cell(*place).due) for place in self.places)
        counts.pop(0, None)
        return max(counts, key=lambda due: (counts[due], due), default=0)

    @property
    def places(self) -> list[Place]:
        return [(name, *column) for name in self.grid.datasets for column in self.columns]


def draw_grids(grids: Iterable[Grid], style: Style) -> str:
    """All tables, tree by tree, each tree with a heading and what must be said about it."""
    texts = []
    for (protocol, tree), group in groupby(grids, lambda grid: (grid.protocol, grid.tree)):
        members = list(group)
        caption = style.measure.caption
        texts.append(_heading(style, f"{protocol}: {tree}") + "\n" + _plain(style, [caption]))
        texts += [draw_sheet(sheet) for grid in members for sheet in sheets_of(grid, style)]
        notes = [f"note: {note}" for note in dict.fromkeys(n for g in members for n in g.notes)]
        notes += style.comparison.legend(members) if style.comparison else []
        if notes:
            texts.append(_plain(style, notes))
    return "\n\n".join(texts)


def sheets_of(grid: Grid, style: Style) -> list[Sheet]:
    """One sheet with all parts if the axis that is not the rows has one entry, else one a part."""
    rows = style.rows or ("trainers" if len(grid.datasets) == 1 else "datasets")
    by_trainer = rows == "trainers"
    others = grid.datasets if by_trainer else grid.methods
    if len(others) == 1:
        return [Sheet(grid, style, grid.parts, by_trainer)]
    return [Sheet(grid, style, (part,), by_trainer) for part in grid.parts]


def draw_sheet(sheet: Sheet) -> str:
    """Title, table, and the lines that explain its marks."""
    grid, style = sheet.grid, sheet.style
    wide = sheet.by_trainer and len(grid.datasets) > 1
    if sheet.by_trainer:
        header = list(grid.datasets) if wide else list(sheet.parts)
        body = [[method, *_cells_of_method(sheet, method)] for method in grid.methods]
    else:
        one = len(grid.methods) == 1
        header = list(sheet.parts) if one else list(grid.methods)
        body = [[name, *_cells_of_dataset(sheet, name)] for name in grid.datasets]
    averages, marks = _averages(sheet)
    if wide:
        header += averages
        for row, method in zip(body, grid.methods, strict=True):
            row += [cells[method, sheet.parts[0]] for cells in averages.values()]
    else:
        body += [[label, *cells.values()] for label, cells in averages.items()]
    drawn = _table(style, header, body)
    return "\n".join([_plain(style, [_title(sheet)], strong=True), drawn, *_legend(sheet, marks)])


def _cells_of_method(sheet: Sheet, method: str) -> list[str]:
    return [
        _text(sheet, (name, method, part)) for name in sheet.grid.datasets for part in sheet.parts
    ]


def _cells_of_dataset(sheet: Sheet, name: str) -> list[str]:
    return [_text(sheet, (name, *column)) for column in sheet.columns]


def _text(sheet: Sheet, place: Place) -> str:
    """`81.23 ± 0.45`, with the number of seeds behind it when that is not the usual one.

    A lone seed has no spread.
    """
    cell = sheet.grid.cell(*place)
    if cell.mean is None:
        return "-" if place[2] == HM else f"{cell.state}*"
    text = _number(sheet, place, cell)
    if not cell.complete:
        return f"{text} ({len(cell.values)}/{len(cell.due)})*"
    return text if len(cell.due) == sheet.usual else f"{text} ({len(cell.due)})"


def _number(sheet: Sheet, place: Place | tuple[None, str, str], cell: Cell) -> str:
    text = signed(cell.mean) if sheet.grid.is_difference(place[1]) else f"{cell.mean:.2f}"
    spread = cell.spread(sheet.style.measure)
    if spread is not None:
        text += f" ± {spread:.2f}"
    text += UNLIKE * bool(cell.unlike)
    comparison = sheet.style.comparison
    return text + (comparison.beside(sheet.grid, place, cell) if comparison else "")


def _averages(sheet: Sheet) -> tuple[dict[str, dict[tuple[str, str], str]], bool]:
    """Rows (or columns) of averages by label, and whether they are over different data sets."""
    grid = sheet.grid
    count = len(grid.datasets)
    if count == 1:
        return {}, False
    over = {column: grid.complete(*column) for column in sheet.columns}
    differ = len({tuple(names) for names in over.values()}) > 1
    if not differ:
        size = len(over[sheet.columns[0]])
        label = "Average" if size == count else f"Average of {size}/{count}"
        return {label: {c: _average(sheet, c, over[c]) for c in over}}, False
    cells = {}
    for column, names in over.items():
        short = len(names) < count
        cells[column] = _average(sheet, column, names) + f" ({len(names)}/{count})†" * short
    common = [name for name in grid.datasets if all(name in names for names in over.values())]
    label = f"Average of {len(common)} in common"
    return {"Average": cells, label: {c: _average(sheet, c, common) for c in over}}, True


def _average(sheet: Sheet, column: tuple[str, str], over: list[str]) -> str:
    cell = sheet.grid.average(*column, over)
    return "-" if cell.mean is None else _number(sheet, (None, *column), cell)


def _title(sheet: Sheet) -> str:
    grid = sheet.grid
    words = []
    if not sheet.by_trainer and len(grid.methods) == 1:
        words.append(grid.methods[0])
    if sheet.by_trainer and len(grid.datasets) == 1:
        words.append(grid.datasets[0])
    words.append(grid.title)
    if len(sheet.parts) == 1 and sheet.parts[0] != grid.metric:
        words.append(sheet.parts[0])
    seeds = f"({sheet.usual} seed{'s' if sheet.usual != 1 else ''})"
    return f"{', '.join(word for word in words if word)} {seeds}"


def _legend(sheet: Sheet, marks: bool) -> list[str]:
    grid = sheet.grid
    lines = []
    consequence = ", left out of the average" if len(grid.datasets) > 1 else ""
    if listed := _incomplete(sheet):
        lines.append(f"* incomplete{consequence}: {listed}")
    if marks:
        lines.append("(k/n)†: over k of n data sets, not those of the others: see those in common")
    if any(_seeds_differ(sheet, grid.cell(*place)) for place in sheet.places):
        lines.append(f"(n): mean of n seeds instead of {sheet.usual}")
    lines += unlike_lines(grid, sheet.parts)
    markdown = sheet.style.format == "github"  # where a line right below would be a row
    return [""] * markdown + [_plain(sheet.style, lines)] if lines else []


def unlike_lines(grid: Grid, parts: Iterable[str]) -> list[str]:
    """What is unlike in which cells, a line for each difference."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for name in grid.datasets:
        for method in grid.methods:
            for text in together(*(grid.cell(name, method, part) for part in parts)):
                found.setdefault(text, {}).setdefault(name, {})[method] = None
    lines = [
        f"{UNLIKE} {'; '.join(f'{name} ({_list(own)})' for name, own in where.items())}: {text}"
        for text, where in found.items()
    ]
    more = len(lines) - _MOST_LINES
    return lines if more < 2 else [*lines[:_MOST_LINES], f"{UNLIKE} and {more} more: --format json"]


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _incomplete(sheet: Sheet) -> str:
    """The data sets that lack something, with the methods that lack them if not all do."""
    grid = sheet.grid
    lacking: dict[tuple[str, ...], list[str]] = {}
    for method in grid.methods:
        names = tuple(name for name in grid.datasets if _lacks(sheet, name, method))
        lacking.setdefault(names, []).append(method)
    lacking.pop((), None)
    if len(grid.datasets) == 1:
        return ", ".join(method for methods in lacking.values() for method in methods)
    return "; ".join(
        f"{', '.join(methods)}: " * (len(methods) < len(grid.methods)) + ", ".join(names)
        for names, methods in lacking.items()
    )


def _lacks(sheet: Sheet, name: str, method: str) -> bool:
    parts = sheet.grid.parts if sheet.grid.joint else sheet.parts
    return not all(sheet.grid.cell(name, method, part).complete for part in parts)


def _seeds_differ(sheet: Sheet, cell: Cell) -> bool:
    return cell.complete and len(cell.due) != sheet.usual


# ---- what the formats differ in


def _table(style: Style, header: list[str], body: list[list[str]]) -> str:
    drawn = tabulate(
        body,
        headers=["", *header],
        tablefmt=style.format,
        disable_numparse=True,
        colalign=["left"] + ["right"] * len(header),
    )
    if not _is_latex(style):
        return drawn
    for sign, name in {"±": "pm", "†": "dagger", UNLIKE: "ddagger"}.items():
        drawn = drawn.replace(sign, rf"$\{name}$")
    return drawn


def _heading(style: Style, text: str) -> str:
    return _plain(style, [f"{'##' if style.format == 'github' else '#'} {text}"])


def _plain(style: Style, lines: list[str], strong: bool = False) -> str:
    """Lines beside a table: comments in LaTeX, paragraphs in Markdown."""
    if _is_latex(style):
        return "\n".join(f"% {line}" for line in lines)
    if style.format == "github":
        marked = (f"**{line}**" if strong else line.replace("*", r"\*") for line in lines)
        return "\n\n".join(marked) + "\n" * strong
    return "\n".join(lines)


def _is_latex(style: Style) -> bool:
    return style.format == "latex"
