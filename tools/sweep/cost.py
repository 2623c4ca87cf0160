"""What runs will take, from finished ones of the same kind."""

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tools.results import Run as Result
from tools.results import find_runs
from tools.results.layout import parse_run_path
from tools.sweep.protocols import Run


class Cost(NamedTuple):
    """Expected seconds of a run."""

    seconds: float
    exact: bool  # from the same method, settings, data set and shots; else from similar runs


class Costs:
    """Medians of the finished runs below a folder, other seeds' and other data sets'."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._seconds: dict[tuple, list[float]] = {}
        self.devices: set[str] = set()
        for result in results:
            seconds = result.record.get("seconds")
            if not result.complete or not isinstance(seconds, int | float):
                continue
            for kind in _kinds(result):
                self._seconds.setdefault(kind, []).append(float(seconds))
            device = result.record.get("device")
            self.devices |= {device} if isinstance(device, str) else set()

    def of(self, run: Result) -> Cost | None:
        """None if nothing like it was ever finished."""
        for exact, kind in zip((True, False), _kinds(run), strict=True):
            if kind in self._seconds:
                return Cost(median(self._seconds[kind]), exact)
        return None


def costs_below(output: Path) -> Costs:
    """From all runs of an output folder, which need not be there."""
    return Costs(find_runs(output) if output.is_dir() else [])


def _kinds(run: Result) -> tuple[tuple, tuple]:
    """The same but for the seed, and the same but for data set and shots too."""
    method = (run.protocol, run.split, run.trainer, run.cfg)
    return (*method, run.dataset, run.shots), method


def expected(costs: Costs, output: Path, runs: Iterable[Run]) -> tuple[float, int]:
    """(seconds that runs will take, for how many of them nothing is known)."""
    found = [costs.of(as_result(output, run.folder)) for run in runs]
    known = [cost.seconds for cost in found if cost is not None]
    return sum(known), len(found) - len(known)


def as_result(output: Path, folder: str) -> Result:
    """What the place of a run's folder says about it, whether it is there or not."""
    return Result(output / folder, "missing", **parse_run_path(output / folder))
