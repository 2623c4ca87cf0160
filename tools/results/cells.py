"""From runs to the cells of a table, and from cells to text."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from tools.results.aggregate import ci95, harmonic_mean, mean, std
from tools.results.runs import Run


@dataclass(frozen=True)
class Measure:
    """What a report shows: which metric, and which spread over seeds."""

    keyword: str = "accuracy"
    ci95: bool = False

    def spread(self, values: Sequence[float]) -> float:
        return ci95(values) if self.ci95 else std(values)

    @property
    def caption(self) -> str:
        return f"{self.keyword} in %, mean ± {'95% interval' if self.ci95 else 'std'} over seeds"


@dataclass(frozen=True)
class Cell:
    """One place of a table: the values of the finished seeds, and how many seeds are due."""

    values: tuple[float, ...]
    due: int
    started: bool

    @property
    def complete(self) -> bool:
        return 0 < self.due == len(self.values)

    def text(self, measure: Measure, usual: int) -> str:
        """`81.23 ± 0.45`, with the number of seeds behind it when that is not `usual`.

        A lone seed has no spread.
        """
        if not self.values:
            return "unfinished*" if self.started else "missing*"
        text = f"{mean(self.values):.2f}"
        if len(self.values) > 1:
            text += f" ± {measure.spread(self.values):.2f}"
        if not self.complete:
            return f"{text} ({len(self.values)}/{self.due})*"
        return text if self.due == usual else f"{text} ({self.due})"


Rows = dict[str, list[Cell]]


def row_of_cells(
    groups: Iterable[list[Run]], measure: Measure, due: Iterable[int] = ()
) -> list[Cell]:
    """One cell per group of runs; a seed seen in one of them, or in `due`, is due in all."""
    groups = list(groups)
    seeds = set(due).union(run.seed for group in groups for run in group)
    return [
        Cell(
            tuple(run.metrics[measure.keyword] for run in group if run.metrics),
            len(seeds),
            bool(group),
        )
        for group in groups
    ]


def table(
    title: str,
    header: list[str],
    rows: Rows,
    measure: Measure,
    average: bool,
    hm: bool = False,
) -> str:
    """Title, table and, where cells lack seeds, a line that names their rows.

    The average row is over complete rows only. `hm` (for two columns, base and new) adds their
    harmonic mean: in a row that of its two means over seeds, in the average row that of the two
    averages.
    """
    usual = _usual(rows)
    header = header + ["HM"] * hm
    body = [
        [name, *(cell.text(measure, usual) for cell in cells), *([_hm_text(cells)] if hm else [])]
        for name, cells in rows.items()
    ]
    if average:
        body.append(_average_row(rows, len(header), hm))
    drawn = tabulate(
        body,
        headers=["", *header],
        disable_numparse=True,
        colalign=["left"] + ["right"] * len(header),
    )
    seeds = f"{usual} seed{'s' if usual != 1 else ''}"
    return "\n".join([f"{title} ({seeds})", drawn, *_legend(rows, average)])


def _hm_text(cells: list[Cell]) -> str:
    """HM of base and new, marked when a seed is missing on either side."""
    if not all(cell.values for cell in cells):
        return "-"
    base, new = (mean(cell.values) for cell in cells)
    return f"{harmonic_mean(base, new):.2f}{'' if _complete(cells) else '*'}"


def _average_row(rows: Rows, width: int, hm: bool) -> list[str]:
    complete = [cells for cells in rows.values() if _complete(cells)]
    label = "Average" if len(complete) == len(rows) else f"Average of {len(complete)}/{len(rows)}"
    if not complete:
        return [label] + ["-"] * width
    means = [mean([mean(cell.values) for cell in column]) for column in zip(*complete, strict=True)]
    if hm:
        means.append(harmonic_mean(*means))
    return [label, *(f"{value:.2f}" for value in means)]


def _legend(rows: Rows, average: bool) -> list[str]:
    names = [name for name, cells in rows.items() if not _complete(cells)]
    consequence = ", left out of the average" if average else ""
    return [f"* incomplete{consequence}: {', '.join(names)}"] if names else []


def _complete(cells: list[Cell]) -> bool:
    return all(cell.complete for cell in cells)


def _usual(rows: Rows) -> int:
    """The number of seeds due in most cells, the larger one of two that are as common."""
    counts = Counter(cell.due for cells in rows.values() for cell in cells)
    return max(counts, key=lambda due: (counts[due], due))
