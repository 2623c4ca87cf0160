"""One place of a table: what several seeds of one thing gave."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tools.results.aggregate import ci95, harmonic_mean, mean, std
from tools.results.alike import among_halves, among_seeds
from tools.results.runs import Run

EMPTY = ("unreadable", "unfinished", "unmeasured", "missing", "unpaired")


@dataclass(frozen=True)
class Measure:
    """What a report shows: which metric, and which spread over seeds."""

    metric: str = "accuracy"
    ci95: bool = False

    def spread(self, values: Sequence[float]) -> float:
        return ci95(values) if self.ci95 else std(values)

    @property
    def caption(self) -> str:
        return f"{self.metric} in %, mean ± {'95% interval' if self.ci95 else 'std'} over seeds"


@dataclass(frozen=True)
class Cell:
    """Mean and values by seed of the runs that are complete, and the seeds that are due.

    `state` is complete; partial: seeds are missing; or one of EMPTY, and then there is no mean.
    unmeasured: complete runs without this metric; unpaired: two methods without a common seed.
    """

    state: str
    mean: float | None = None
    values: Mapping[int, float] = field(default_factory=dict)
    due: tuple[int, ...] = ()
    over: tuple[str, ...] = ()  # of an average: the data sets
    unlike: tuple[str, ...] = ()  # what makes it no mean, or no comparison, of like with like
    runs: tuple[Run, ...] = ()  # that the values are of

    @property
    def complete(self) -> bool:
        return self.state == "complete"

    @property
    def lacking(self) -> list[int]:
        """Seeds that are due and have no value."""
        return [seed for seed in self.due if seed not in self.values]

    def spread(self, measure: Measure) -> float | None:
        """Standard deviation or half of the 95% interval; None for fewer than two seeds."""
        values = list(self.values.values())
        return measure.spread(values) if len(values) > 1 else None


def signed(value: float) -> str:
    """`+1.23`; `+0.00` for everything that rounds to it."""
    return f"{round(value, 2) + 0.0:+.2f}"  # -0.0 + 0.0 is 0.0


def cell_of(runs: Iterable[Run], metric: str, due: Iterable[int] = ()) -> Cell:
    """The cell of the seeds of one thing; the seeds of `runs` and those in `due` are due.

    ValueError where two runs are of one seed, as when a tree has the same under two layouts.
    """
    runs = list(runs)
    _check_seeds(runs)
    measured = tuple(run for run in runs if metric in run.metrics)
    values = {run.seed: run.metrics[metric] for run in measured}
    seeds = tuple(sorted({*due, *(run.seed for run in runs)}))
    if not values:
        states = {"unmeasured" if run.complete else run.state for run in runs}
        return Cell(next((s for s in EMPTY if s in states), "missing"), due=seeds)
    return replace(filled(values, seeds), unlike=among_seeds(measured), runs=measured)


def _check_seeds(runs: Sequence[Run]) -> None:
    seen: dict[int | None, Run] = {}
    for run in runs:
        if run.seed in seen:
            raise ValueError(
                f"{seen[run.seed].path} and {run.path} are both seed {run.seed} of one experiment: "
                "move one out of the tree"
            )
        seen[run.seed] = run


def filled(values: Mapping[int, float], due: tuple[int, ...], centre: float | None = None) -> Cell:
    """A cell with at least one value; its mean is that of the values if no `centre` is given."""
    values = dict(sorted(values.items()))
    state = "complete" if set(due) <= set(values) else "partial"
    return Cell(state, mean(list(values.values())) if centre is None else centre, values, due)


def hm_cell(base: Cell, new: Cell) -> Cell:
    """The HM of the two means over seeds; its values are the HMs of each seed that has both."""
    due = tuple(sorted({*base.due, *new.due}))
    if base.mean is None or new.mean is None:
        states = (base.state, new.state)
        return Cell(next(s for s in EMPTY if s in states), due=due)
    values = {
        seed: harmonic_mean(base.values[seed], new.values[seed])
        for seed in sorted(base.values.keys() & new.values.keys())
    }
    state = "complete" if base.complete and new.complete else "partial"
    unlike = together(base, new) + among_halves(base.runs, new.runs)
    return Cell(state, harmonic_mean(base.mean, new.mean), values, due, unlike=unlike)


def marked(cell: Cell, unlike: Iterable[str]) -> Cell:
    """The cell with more of what is unlike."""
    return replace(cell, unlike=(*cell.unlike, *unlike))


def together(*cells: Cell) -> tuple[str, ...]:
    """What is unlike in any of the cells."""
    return tuple(dict.fromkeys(text for cell in cells for text in cell.unlike))


def average_cell(cells: Sequence[Cell]) -> Cell:
    """The mean of the cells' means; values by seed only when all cells have the same seeds."""
    if not cells or any(cell.mean is None for cell in cells):
        return Cell("missing")
    centre = mean([cell.mean for cell in cells])
    seeds = set(cells[0].values)
    if any(set(cell.values) != seeds for cell in cells):
        return Cell("complete", centre)
    values = {seed: mean([cell.values[seed] for cell in cells]) for seed in sorted(seeds)}
    return Cell("complete", centre, values, tuple(values))


def restricted(cell: Cell, seeds: Iterable[int], due: Iterable[int]) -> Cell:
    """The same with some of the seeds only; unpaired when none of them has a value."""
    values = {seed: cell.values[seed] for seed in seeds}
    if cell.mean is None:
        return cell
    if not values:
        return Cell("unpaired")
    runs = tuple(run for run in cell.runs if run.seed in values)
    return replace(filled(values, tuple(sorted(due))), unlike=cell.unlike, runs=runs)
