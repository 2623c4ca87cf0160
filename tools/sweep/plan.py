"""A plan in words: what would be run, and what it will take."""

from collections.abc import Sequence

from tabulate import tabulate

from common.formats import clock
from tools.sweep.books import Books
from tools.sweep.cost import as_result, costs_below, expected
from tools.sweep.protocols import Run


def describe(books: Books, runs: Sequence[Run], workers: int) -> str:
    """A line per method, data set and part, with times as of finished runs of the same kind."""
    costs = costs_below(books.output)
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        place = as_result(books.output, run.folder)
        part = place.split or "train and test"
        row = (f"{place.trainer}/{place.cfg}", place.dataset, part)
        groups.setdefault(row, []).append(run)
    rows, total, unknown = [], 0.0, 0
    for row, group in groups.items():
        todo = [run for run in group if not books.is_finished(run.folder, run.after)]
        seconds, blank = expected(costs, books.output, todo)
        total, unknown = total + seconds, unknown + blank
        found = [costs.of(as_result(books.output, run.folder)) for run in todo]
        about = "" if all(cost and cost.exact for cost in found) else "about "
        shown = f"{about}{clock(seconds)}" if todo and blank < len(todo) else "?" if todo else ""
        waits = "its training" if any(run.after for run in group) else ""
        rows.append([*row, len(group), len(group) - len(todo) or "", shown, waits])
    headers = ["method", "data set", "part", "runs", "finished", "time", "waits for"]
    text = tabulate(rows, headers=headers, disable_numparse=True)
    lines = [text, "", *_sum(total, unknown, workers, sorted(costs.devices))]
    return "\n".join(lines)


def _sum(total: float, unknown: int, workers: int, devices: Sequence[str]) -> list[str]:
    lines = []
    if total:
        at_once = f"; {workers} at once: {clock(total / workers)}" if workers > 1 else ""
        lines.append(
            f"to do: {clock(total)}{at_once}, as finished runs took on {', '.join(devices)}"
        )
    if unknown:
        lines.append(f"of {unknown} runs nothing is known: nothing like them was finished here")
    return lines or ["nothing to do"]
