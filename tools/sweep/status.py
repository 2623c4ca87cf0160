"""Which runs are done, running, waiting and failed."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tabulate import tabulate

from tools.sweep.books import Books
from tools.sweep.cost import as_result

DONE, RUNNING, WAITING, FAILED = STATES = ("done", "running", "waiting", "failed")
IN_FULL = 20  # failures that are shown with what was printed


class Known(NamedTuple):
    """Of a run: one of STATES, and why it failed."""

    state: str
    words: str = ""


def look(books: Books, folder: str, after: str | None = None) -> Known:
    """How a run is now. One whose training failed has failed too."""
    if books.holder(folder):  # results.json may get more yet
        return Known(RUNNING)
    if books.is_finished(folder, after):
        return Known(DONE)
    state = books.state(folder)
    if state.gave_up:
        times = "once" if state.attempts == 1 else f"{state.attempts} times"
        return Known(FAILED, f"{state.why}; tried {times}")
    if after and look(books, after).state == FAILED:
        return Known(FAILED, f"waited for {name(books, after)}")
    return Known(WAITING)


def name(books: Books, folder: str) -> str:
    """A run in words: its method, data set, part, shots and seed."""
    run = as_result(books.output, folder)
    part = {"train_base": "base", "test_new": "new", "train_source": "source"}.get(run.split or "")
    words = [run.trainer, run.dataset, part, f"{run.shots} shots", f"seed {run.seed}"]
    return " ".join(word for word in words if word)


def table(books: Books, runs: Mapping[str, str | None]) -> str:
    """A line per method and data set, and the sum. `runs`: folders, and what they wait for."""
    counts: dict[tuple[str, ...], dict[str, int]] = {}
    for folder, after in runs.items():
        run = as_result(books.output, folder)
        row = (run.protocol or "", f"{run.trainer}/{run.cfg}", run.dataset or "")
        state = look(books, folder, after).state
        counts.setdefault(row, dict.fromkeys(STATES, 0))[state] += 1
    rows = [[*row, *_cells(counts[row].values())] for row in sorted(counts)]
    sums = [sum(count[state] for count in counts.values()) for state in STATES]
    rows.append(["all", "", "", *_cells(sums)])
    return tabulate(
        rows,
        headers=["protocol", "method", "data set", *STATES],
        colalign=["left"] * 3 + ["right"] * len(STATES),
    )


def _cells(counts: Iterable[int]) -> list[str]:
    return [str(count) if count else "" for count in counts]


def failures(books: Books, runs: Mapping[str, str | None], lines: int = 15) -> str:
    """Every failed run, the first ones with the end of what they printed; '' if there is none."""
    found = []
    for folder, after in runs.items():
        known = look(books, folder, after)
        if known.state == FAILED and len(found) >= IN_FULL:
            found.append(f"{name(books, folder)}: {known.words}")
        elif known.state == FAILED:
            tail = [f"    {line}" for line in books.end_of_log(folder, lines)]
            log = [f"  all of it: {books.log(folder)}"] if tail else []
            found.append("\n".join([f"{name(books, folder)}: {known.words}", *tail, *log]))
    return "\n\n".join(found)
