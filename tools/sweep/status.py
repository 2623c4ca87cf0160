"""Tables of runs: what is done, running, waiting and failed, and what a plan will take."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from glob import escape
from statistics import median

from tabulate import tabulate

from common.formats import clock
from tools.sweep.protocols import Run, RunPath
from tools.sweep.store import FAILED, STATUSES, RunStore

IN_FULL = 20  # failures that are shown with what was printed


def status_table(store: RunStore, runs: Mapping[str, str | None]) -> str:
    """A row per method and dataset, and the sum. `runs`: directories, and what they wait for."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for directory, after in runs.items():
        run = RunPath.parse(directory)
        row = (run.group.partition("/")[0], f"{run.method}/{run.cfg}", run.dataset)
        counts.setdefault(row, Counter())[store.status(directory, after).name] += 1
    rows = [[*row, *_cells(counts[row])] for row in sorted(counts)]
    rows.append(["all", "", "", *_cells(sum(counts.values(), Counter()))])
    headers = ["protocol", "method", "dataset", *STATUSES]
    return str(tabulate(rows, headers, colalign=["left"] * 3 + ["right"] * len(STATUSES)))


def _cells(count: Counter[str]) -> list[str]:
    return [str(count[status] or "") for status in STATUSES]


def failures(store: RunStore, runs: Mapping[str, str | None], lines: int = 15) -> list[str]:
    """A text for every failed run, the first ones with the end of what they printed."""
    found: list[str] = []
    for directory, after in runs.items():
        status = store.status(directory, after)
        if status.name == FAILED:
            text = [f"{RunPath.parse(directory).words()}: {status.why}"]
            if len(found) < IN_FULL and (end := store.end_of_log(directory, lines)):
                text += [*(f"    {line}" for line in end), f"  all of it: {store.log(directory)}"]
            found.append("\n".join(text))
    return found


def plan_table(store: RunStore, runs: Sequence[Run], workers: int) -> str:
    """A row per method, dataset and part, with times as finished runs of the same kind took."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        path = RunPath.parse(run.directory)
        row = (f"{path.method}/{path.cfg}", path.dataset, path.part or "train and test")
        groups.setdefault(row, []).append(run)
    seconds_of = _expected_seconds(store)
    rows, total, unknown = [], 0.0, 0
    for row, group in groups.items():
        pending = [run for run in group if not store.is_finished(run.directory, run.after)]
        known = [s for run in pending if (s := seconds_of(run.directory)) is not None]
        total, unknown = total + sum(known), unknown + len(pending) - len(known)
        time = clock(sum(known)) if known else "?" if pending else ""
        waits = "its training" if any(run.after for run in group) else ""
        rows.append([*row, len(group), len(group) - len(pending) or "", time, waits])
    headers = ["method", "dataset", "part", "runs", "finished", "time", "waits for"]
    text = tabulate(rows, headers=headers, disable_numparse=True)
    return "\n".join([text, "", *_sum(total, unknown, workers)])


def _expected_seconds(store: RunStore) -> Callable[[str], float | None]:
    """Median times of finished runs: of other seeds, else of other datasets and shots too."""

    @cache
    def median_of(pattern: str) -> float | None:
        files = store.output.glob(f"{pattern}/results.json")
        times = [store.seconds(str(file.parent.relative_to(store.output))) for file in files]
        known = [seconds for seconds in times if seconds is not None]
        return median(known) if known else None

    def expected(directory: str) -> float | None:
        other_seeds = RunPath.parse(escape(directory))._replace(seed="seed*")
        found = median_of("/".join(other_seeds))
        if found is None:
            found = median_of("/".join(other_seeds._replace(dataset="*", shots="*")))
        return found

    return expected


def _sum(total: float, unknown: int, workers: int) -> Iterable[str]:
    at_once = f"; {workers} at once: {clock(total / workers)}" if workers > 1 else ""
    if total:
        yield f"to do: {clock(total)}{at_once}, as finished runs took"
    if unknown:
        yield f"of {unknown} runs nothing is known: nothing like them was finished here"
    if not total and not unknown:
        yield "nothing to do"
