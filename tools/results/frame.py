"""One frame of all runs, grouped into the cells of grids: datasets by methods by parts.

A grid holds what belongs into one comparison: one protocol, one tree, one number of shots (of
few-shot trees: all numbers, as the parts), and of cross-dataset trees one kind of targets.
"""

import difflib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from tools.results.alike import (
    among_datasets,
    among_halves,
    among_methods,
    among_seeds,
    among_targets,
)
from tools.results.layout import HALVES, natural_key
from tools.results.reader import Run
from tools.sweep.protocols import CLASS_BOUND

HM = "HM"
UNANSWERED = "unanswered"
EMPTY = ("unreadable", "unfinished", "unmeasured", "missing", "unpaired")
KINDS = ("", "source", "targets", "domain generalisation")
Place = tuple[str, str, str]  # dataset, method, part


def std(values: Sequence[float]) -> float:
    """Population standard deviation (divides by n, numpy's default), as the CoOp family reports."""
    center = fmean(values)
    return math.sqrt(fmean((value - center) ** 2 for value in values))


def ci95(values: Sequence[float]) -> float:
    """Half width of the 95% confidence interval of the mean, 1.96 * std / sqrt(n)."""
    return 1.96 * std(values) / math.sqrt(len(values))


def harmonic_mean(base: float, new: float) -> float:
    """HM = 2bn / (b + n); 0 when both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


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


# ---- cells: the seeds of one thing


@dataclass(frozen=True)
class Cell:
    """Mean and values by seed of the runs that are complete, and the seeds that are due.

    `state` is complete; partial: seeds are missing; or one of EMPTY, and then there is no mean.
    unmeasured: complete runs without this metric; unpaired: two methods without a common seed;
    unanswered: the method answers for its training classes alone, so that nothing is missing.
    """

    state: str
    mean: Any = None  # float
    values: Mapping[int, float] = field(default_factory=dict)
    due: tuple[int, ...] = ()
    over: tuple[str, ...] = ()  # of an average: the datasets
    unlike: tuple[str, ...] = ()  # what makes it no mean, or no comparison, of like with like
    runs: tuple[Run, ...] = ()  # that the values are of
    pair: tuple["Cell", ...] = ()  # of a difference: the two cells

    @property
    def complete(self) -> bool:
        return self.state in ("complete", UNANSWERED)

    @property
    def lacking(self) -> list[int]:
        """Seeds that are due and have no value."""
        return [s for s in self.due if s not in self.values and self.state != UNANSWERED]

    def spread(self, measure: Measure) -> float | None:
        """Standard deviation or half of the 95% interval; None for fewer than two seeds."""
        values = list(self.values.values())
        return measure.spread(values) if len(values) > 1 else None


def cell_of(runs: Iterable[Run], metric: str, due: Iterable[int] = ()) -> Cell:
    """The cell of the seeds of one thing; the seeds of `runs` and those in `due` are due.

    ValueError where two runs are of one seed, as when a tree has the same under two layouts.
    """
    by_seed: dict[Any, Run] = {}
    for run in runs:
        if (first := by_seed.setdefault(run.seed, run)) is not run:
            raise ValueError(
                f"{first.path} and {run.path} are both seed {run.seed} of one experiment: "
                "move one out of the tree"
            )
    measured = tuple(run for run in by_seed.values() if metric in run.metrics)
    seeds = tuple(sorted({*due, *by_seed}))
    if not measured:
        states = {"unmeasured" if run.complete else run.state for run in by_seed.values()}
        return Cell(_first_empty(states), due=seeds)
    values = {run.seed: run.metrics[metric] for run in measured}
    return replace(_filled(values, seeds), unlike=among_seeds(measured), runs=measured)


def _first_empty(states: Iterable[str]) -> str:
    return next((state for state in EMPTY if state in states), "missing")


def _filled(values: Mapping[int, float], due: tuple[int, ...]) -> Cell:
    state = "complete" if set(due) <= set(values) else "partial"
    return Cell(state, fmean(values.values()), dict(sorted(values.items())), due)


def hm_cell(base: Cell, new: Cell) -> Cell:
    """The HM of the two means over seeds; its values are the HMs of each seed that has both."""
    due = tuple(sorted({*base.due, *new.due}))
    if base.mean is None or new.mean is None:
        states = (base.state, new.state)
        state = UNANSWERED if base.complete and new.complete else _first_empty(states)
        return Cell(state, due=due)
    values = {
        seed: harmonic_mean(base.values[seed], new.values[seed])
        for seed in sorted(base.values.keys() & new.values.keys())
    }
    state = "complete" if base.complete and new.complete else "partial"
    unlike = together(base, new) + among_halves(base.runs, new.runs)
    return Cell(state, harmonic_mean(base.mean, new.mean), values, due, unlike=unlike)


def average_cell(cells: Sequence[Cell]) -> Cell:
    """The mean of the cells' means; values by seed only when all cells have the same seeds."""
    if not cells or any(cell.mean is None for cell in cells):
        is_unanswered = bool(cells) and all(cell.state == UNANSWERED for cell in cells)
        return Cell(UNANSWERED if is_unanswered else "missing")
    values = pd.DataFrame([cell.values for cell in cells])
    means = {} if values.isna().any(axis=None) else {s: fmean(values[s]) for s in sorted(values)}
    return Cell("complete", fmean(cell.mean for cell in cells), means, tuple(means))


def difference_cell(own: Cell, other: Cell) -> Cell:
    """The difference of two cells with the same seeds."""
    for cell in (own, other):
        if cell.mean is None:
            return Cell(cell.state, due=cell.due)
    values = {s: value - other.values[s] for s, value in own.values.items() if s in other.values}
    state = "complete" if own.complete and other.complete else "partial"
    mean, unlike = own.mean - other.mean, together(own, other)
    return Cell(state, mean, values, own.due, unlike=unlike, pair=(own, other))


def together(*cells: Cell) -> tuple[str, ...]:
    """What is unlike in any of the cells."""
    return tuple(dict.fromkeys(text for cell in cells for text in cell.unlike))


# ---- methods: which runs are of one, so that a cell never mixes two


class Method(NamedTuple):
    """What must agree; `epoch` is set only where the seeds of one cell were tested with several."""

    trainer: str
    cfg: str
    backbone: str
    tested_on: str
    epoch: str


class Methods(NamedTuple):
    """The methods of a tree: runs by label, in natural order, and what must be said of them."""

    runs: dict[str, list[Run]]
    about: dict[str, Method]
    notes: list[str]


def methods_of(runs: Sequence[Run]) -> Methods:
    """Divide the runs of one tree into methods.

    A label says only what tells the methods of the tree apart, and no more than the trainer where
    that is enough. ImageNet often has a variant of its own (more images, larger batches): one that
    was run on ImageNet only joins the variant that was run on the other datasets, with a note.
    """
    notes: list[str] = []
    epochs = _mixed_epochs(runs, notes)
    backbones = _backbones(runs, notes)
    found: dict[Method, list[Run]] = defaultdict(list)
    for run in runs:
        backbone = backbones.get(run.trainer, run.backbone or "an unknown backbone")
        tested_on = "val" if run.tested_on == "val" else "test"
        epoch = str(run.load_epoch or "the last") if _spot(run) in epochs else ""
        found[Method(run.trainer, run.cfg, backbone, tested_on, epoch)].append(run)
    _join_imagenet(found, notes)
    labels = {_label(method, found): method for method in found}
    ordered = sorted(labels, key=natural_key)
    return Methods(
        {label: found[labels[label]] for label in ordered},
        {label: labels[label] for label in ordered},
        notes,
    )


def _spot(run: Run) -> tuple[Any, ...]:
    return run.trainer, run.cfg, run.backbone, run.split, run.dataset, run.shots


def _mixed_epochs(runs: Iterable[Run], notes: list[str]) -> set[tuple[Any, ...]]:
    """The cells whose seeds were tested with the weights of different epochs."""
    asked: dict[tuple[Any, ...], set[int | None]] = defaultdict(set)
    for run in runs:
        if run.complete:
            asked[_spot(run)].add(run.load_epoch)
    mixed = {spot for spot, epochs in asked.items() if len(epochs) > 1}
    for trainer, *_, split, dataset, _ in sorted(mixed, key=natural_key):
        notes.append(
            f"{trainer}, {dataset}{f', {split}' if split else ''}: seeds were tested with the "
            "weights of different epochs, which are kept apart"
        )
    return mixed


def _backbones(runs: Iterable[Run], notes: list[str]) -> dict[str, str]:
    """The backbone by trainer, where all runs that name one name the same."""
    named: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        named[run.trainer] |= {run.backbone} if run.complete and run.backbone is not None else set()
    for trainer, names in named.items():
        if len(names) > 1:
            notes.append(
                f"{trainer} was run on several backbones, which are kept apart: "
                + ", ".join(sorted(names))
            )
    return {trainer: "".join(names) for trainer, names in named.items() if len(names) < 2}


def _join_imagenet(found: dict[Method, list[Run]], notes: list[str]) -> None:
    """Move the runs of ImageNet's own variants to the variants of the other datasets."""
    datasets = {method: {run.dataset for run in runs} for method, runs in found.items()}
    own = [method for method, names in datasets.items() if names == {"imagenet"}]
    for method in own:
        alike = [other for other in datasets if _but_for_variant(other) == _but_for_variant(method)]
        rest = [other for other in alike if "imagenet" not in datasets[other]]
        rivals = [other for other in own if other in alike]
        variant, at, tag = method.cfg.partition("@")
        named = [r for r in rest if variant == f"{r.cfg.removesuffix(at + tag)}_imagenet"]
        chosen = named or (rest if len(rivals) == 1 else [])
        if len(chosen) == 1:
            found[chosen[0]] += found.pop(method)
            notes.append(
                f"{method.trainer}: imagenet with the settings {method.cfg}, "
                f"other data sets with {chosen[0].cfg}"
            )


def _but_for_variant(method: Method) -> Method:
    """What must agree besides the variant; a sweep's --tag stands behind it, as <cfg>@<tag>."""
    _, at, tag = method.cfg.partition("@")
    return method._replace(cfg=at + tag)


def _label(method: Method, others: Iterable[Method]) -> str:
    """The trainer, its cfg if the tree has several, the backbone if any trainer has another."""
    label = method.trainer
    if len({other.cfg for other in others if other.trainer == method.trainer}) > 1:
        label += f"/{method.cfg}"
    if method.backbone and len({other.backbone for other in others} - {""}) > 1:
        label += f" on {method.backbone}"
    if method.tested_on != "test":
        label += " (validation images)"
    return label + (f" (epoch {method.epoch})" if method.epoch else "")


# ---- grids


@dataclass(frozen=True)
class Grid:
    """Cells by dataset, method and part, in the order to show them; every combination has one.

    Parts are base, new (and HM); `4 shots`; or the metric. Of base2new an average is over datasets
    that are complete in all parts.
    """

    protocol: str
    tree: Path
    title: str  # what the grid is besides: 16 shots; 16 shots, targets
    shots: int | None  # None: the parts say it
    metric: str
    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    parts: tuple[str, ...]
    cells: dict[Place, Cell]
    about: dict[str, Method]  # what the runs of each method share
    notes: tuple[str, ...] = ()
    kind: str = ""  # of cross_dataset: one of KINDS
    reference: str = ""  # the method that the others are differences to
    minuends: Mapping[str, str] = field(default_factory=dict)  # of `CoOp - MMRL`: CoOp

    @property
    def joint(self) -> bool:
        return self.protocol == "base2new"

    def cell(self, dataset: str, method: str, part: str) -> Cell:
        return self.cells[dataset, method, part]

    def shots_of(self, part: str) -> Any:
        return self.shots if self.shots is not None else _leading_number(part)

    def complete(self, method: str, part: str) -> list[str]:
        """The datasets that an average of this method's part can be over."""
        parts = self.parts if self.joint else (part,)
        return [
            name
            for name in self.datasets
            if all(self.cells[name, method, p].complete for p in parts)
        ]

    def common(self) -> list[str]:
        """The datasets that are complete for every method and part."""
        sets = [set(self.complete(m, p)) for m in self.methods for p in self.parts]
        return [name for name in self.datasets if all(name in names for names in sets)]

    def average(self, method: str, part: str, over: Sequence[str]) -> Cell:
        """Mean over datasets; of HM the harmonic mean of the averages of base and new."""
        needed = [*HALVES, HM] if part == HM else [part]
        rows = [{p: self.cells[name, method, p] for p in needed} for name in over]
        if method not in self.minuends:
            return replace(_average(rows, part), over=tuple(over))
        sides = ([{p: cell.pair[i] for p, cell in row.items()} for row in rows] for i in (0, 1))
        cell = difference_cell(*(_average(side, part) for side in sides))
        return replace(cell, over=tuple(over))


def _average(rows: Sequence[Mapping[str, Cell]], part: str) -> Cell:
    if part == HM:
        cell = hm_cell(*(_average(rows, half) for half in HALVES))
    else:
        cell = average_cell([row[part] for row in rows])
    return replace(cell, unlike=together(*(row[part] for row in rows)))


def _leading_number(part: str) -> int | None:
    first = part.partition(" ")[0].removeprefix("-")
    return int(part.partition(" ")[0]) if first.isdecimal() else None


def shots_text(count: int) -> str:
    return f"{count} shot{'s' if count != 1 else ''}"


def grids_of(runs: Iterable[Run], metric: str = "accuracy") -> list[Grid]:
    """The grids of all trees that `runs` lie in; runs outside of every protocol are left out."""
    trees: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.protocol:
            trees[run.protocol, str(run.tree)].append(run)
    return [
        grid
        for place in sorted(trees, key=natural_key)
        for grid in _grids_of_tree(trees[place], metric)
    ]


def run_frame(methods: Methods, metric: str) -> pd.DataFrame:
    """A row per run of a tree, with the grid, row, column and part that it belongs to."""
    rows = [
        {
            "shots": None if run.protocol == "few_shot" else run.shots,
            "kind": _kind(run),
            "dataset": run.dataset,
            "method": label,
            "part": run.half or (shots_text(run.shots) if run.protocol == "few_shot" else metric),
            "seed": run.seed,
            "run": run,
        }
        for label, own in methods.runs.items()
        for run in own
    ]
    return pd.DataFrame(rows, dtype=object)


def _kind(run: Run) -> str:
    """What a run of cross_dataset measures; the papers average the kinds of targets separately."""
    if run.protocol != "cross_dataset":
        return ""
    if run.split == "train_source":
        return "source"
    return KINDS[3] if run.dataset.lower().startswith("imagenet") else "targets"


def _grids_of_tree(runs: list[Run], metric: str) -> list[Grid]:
    methods = methods_of(runs)
    frame = run_frame(methods, metric)
    groups = frame.groupby(["shots", "kind"], sort=False, dropna=False)
    members = {(run.iloc[0].run.shots, kind): run for (_, kind), run in groups}
    order = sorted(members, key=lambda key: (natural_key(key[0]), KINDS.index(key[1])))
    return [_grid(members[key], members.get((key[0], "source")), methods, metric) for key in order]


def _grid(frame: pd.DataFrame, trained: pd.DataFrame | None, methods: Methods, metric: str) -> Grid:
    """A cell per dataset, method and part of `frame`; a seed of one part is due in all of them, and
    the seeds of `trained` on every dataset."""
    first = frame.iloc[0]
    datasets = sorted(frame.dataset.unique(), key=natural_key)
    labels = [label for label in methods.runs if label in set(frame.method)]
    parts = {
        "base2new": list(HALVES),
        "few_shot": sorted(frame.part.unique(), key=lambda part: _leading_number(part) or 0),
    }.get(first.run.protocol, [metric])
    members = {key: list(own.run) for key, own in frame.groupby(["dataset", "method", "part"])}
    due: dict[tuple[str, str], set[int]] = defaultdict(set)
    for row in frame.itertuples():
        due[row.dataset, row.method].add(row.seed)
    sources = dict(list(trained.groupby("method"))) if trained is not None else {}
    cells: dict[Place, Cell] = {}
    for label in labels:
        seeds = set(sources[label].seed) if label in sources else set()
        for name in datasets:
            for part in parts:
                own = members.get((name, label, part), [])
                cell = cell_of(own, metric, seeds | due[name, label])
                if part == "new" and methods.about[label].trainer in CLASS_BOUND and not own:
                    cell = replace(cell, state=UNANSWERED)
                cells[name, label, part] = cell
    _mark_rows(cells)
    _mark_targets(cells, sources)
    _mark_doubles(cells)
    if first.run.protocol == "base2new" and metric != "error":  # HM rewards what is high
        parts = [*parts, HM]
        for name in datasets:
            for label in labels:
                halves = (cells[name, label, half] for half in HALVES)
                cells[name, label, HM] = hm_cell(*halves)
    title = "" if first.shots is None else shots_text(first.shots)
    return Grid(
        protocol=first.run.protocol,
        tree=first.run.tree,
        title=f"{title}, {first.kind}" if first.kind else title,
        shots=first.shots,
        metric=metric,
        datasets=tuple(datasets),
        methods=tuple(labels),
        parts=tuple(parts),
        cells=cells,
        about=methods.about,
        notes=tuple(methods.notes),
        kind=first.kind,
    )


def _mark(cells: dict[Place, Cell], places: Iterable[Place], unlike: Iterable[str]) -> None:
    for place in places:
        cells[place] = replace(cells[place], unlike=(*cells[place].unlike, *unlike))


def _mark_rows(cells: dict[Place, Cell]) -> None:
    """Mark the cells of a dataset's part whose methods had not the same to work with."""
    rows: dict[tuple[str, str], dict[str, Place]] = defaultdict(dict)
    for place in cells:
        rows[place[0], place[2]][place[1]] = place
    for places in rows.values():
        unlike = among_methods({label: cells[place].runs for label, place in places.items()})
        _mark(cells, places.values() if unlike else (), unlike)


def _mark_targets(cells: dict[Place, Cell], sources: Mapping[str, pd.DataFrame]) -> None:
    """Mark the cells of cross-dataset methods that did not test the same weights everywhere."""
    if not sources:
        return
    for label in dict.fromkeys(method for _, method, _ in cells):
        places = [place for place in cells if place[1] == label]
        tested = {id(run): run for run in (sources[label].run if label in sources else ())}
        tested |= {id(run): run for place in places for run in cells[place].runs}
        unlike = dict.fromkeys(
            line
            for seed in sorted({run.seed for run in tested.values()})
            for line in among_targets([run for run in tested.values() if run.seed == seed])
        )
        _mark(cells, places if unlike else (), unlike)


def _mark_doubles(cells: dict[Place, Cell]) -> None:
    """Mark the cells of datasets that an average would count twice: `dtd` and `dtd (copy)`."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for (name, *_), cell in cells.items():
        runs[name] += cell.runs
    for name, text in among_datasets(runs).items():
        _mark(cells, [place for place in cells if place[0] == name], [text])


# ---- differences to one method, paired by dataset and seed


def find_method(grids: Sequence[Grid], name: str) -> list[str | None]:
    """The label of the method `name`, a trainer or a label, in every grid; None where it is not.

    Raises ValueError when it is nowhere, or several methods of one grid go by that name.
    """
    labels = [_find(grid, name) for grid in grids]
    if not any(labels):
        names = sorted({method for grid in grids for method in grid.methods})
        close = difflib.get_close_matches(name, names, 1, 0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"--against: there are no runs of '{name}', only of {_list(names)}{hint}")
    return labels


def _find(grid: Grid, name: str) -> str | None:
    if name in grid.methods:
        return name
    found = [m for m in grid.methods if grid.about[m].trainer.lower() == name.lower()]
    if len(found) > 1:
        raise ValueError(
            f"--against: '{name}' was run in several variants in {grid.tree}; "
            f"choose one of {_list(found)}"
        )
    return found[0] if found else None


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" if " " in name else name for name in names)


def differences(grid: Grid, reference: str) -> Grid:
    """The same comparison, with `reference` first and every other method as a difference to it.

    Only seeds that both have count, on each dataset; the difference of HMs is that of the HMs of
    these seeds, and an average is the difference of the two averages.
    """
    minuends = {f"{m} - {reference}": m for m in grid.methods if m != reference}
    cells = {place: cell for place, cell in grid.cells.items() if place[1] == reference}
    for label, method in minuends.items():
        for name in grid.datasets:
            own, other = _paired(grid, name, (method, reference))
            for part in grid.parts:
                cells[name, label, part] = difference_cell(own[part], other[part])
    return replace(
        grid,
        methods=(reference, *minuends),
        cells=cells,
        about=grid.about | {label: grid.about[method] for label, method in minuends.items()},
        notes=(*grid.notes, f"differences to {reference} are over the seeds both have"),
        reference=reference,
        minuends=minuends,
    )


def _paired(grid: Grid, name: str, methods: tuple[str, str]) -> tuple[dict[str, Cell], ...]:
    """The cells of two methods by part, with those seeds only that both have."""
    sides: tuple[dict[str, Cell], ...] = {}, {}
    for part in grid.parts:
        both = [grid.cell(name, method, part) for method in methods]
        seeds = both[0].values.keys() & both[1].values.keys()
        due = tuple(sorted({*both[0].due} & {*both[1].due}))
        for side, cell in zip(sides, both, strict=True):
            if part == HM:
                side[part] = hm_cell(*(side[half] for half in HALVES))
            else:
                side[part] = _restricted(cell, seeds, due)
    return sides


def _restricted(cell: Cell, seeds: Iterable[int], due: tuple[int, ...]) -> Cell:
    """The same with some of the seeds only; unpaired when none of them has a value."""
    if cell.mean is None:
        return cell
    values = {seed: cell.values[seed] for seed in seeds}
    if not values:
        return Cell("unpaired")
    runs = tuple(run for run in cell.runs if run.seed in values)
    return replace(_filled(values, due), unlike=cell.unlike, runs=runs)
