"""From a flat list of runs to grids: data sets by methods by parts, before any drawing.

A grid holds what belongs into one comparison: one protocol, one tree, one number of shots (of
few-shot trees: all numbers, as the parts), and of cross-dataset trees one kind of targets.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tools.results.alike import among_datasets, among_methods, among_targets
from tools.results.cells import Cell, average_cell, cell_of, hm_cell, marked, together
from tools.results.methods import Method, Methods, methods_of
from tools.results.places import natural_key
from tools.results.runs import Run

HM = "HM"
HALVES = {"base": "train_base", "new": "test_new"}
Place = tuple[str, str, str]  # data set, method, part


@dataclass(frozen=True)
class Grid:
    """Cells by data set, method and part, in the order to show them.

    Parts are base, new (and HM); `4 shots`; or the metric. Every combination has a cell. What
    belongs into a data set's row of HM counts in averages only where base and new are complete.
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
    kind: str = ""  # of cross_dataset: source, targets or domain generalisation
    joint: bool = False  # an average is over data sets that are complete in all parts

    def is_difference(self, method: str) -> bool:
        """Whether the method's numbers are differences to another one."""
        return False

    def cell(self, dataset: str, method: str, part: str) -> Cell:
        return self.cells[dataset, method, part]

    def complete(self, method: str, part: str) -> list[str]:
        """The data sets that an average of this method's part can be over."""
        parts = self.parts if self.joint else (part,)
        return [
            name
            for name in self.datasets
            if all(self.cells[name, method, p].complete for p in parts)
        ]

    def common(self) -> list[str]:
        """The data sets that are complete for every method and part."""
        sets = [set(self.complete(m, p)) for m in self.methods for p in self.parts]
        return [name for name in self.datasets if all(name in names for names in sets)]

    def average(self, method: str, part: str, over: Sequence[str]) -> Cell:
        """Mean over data sets; of HM the harmonic mean of the averages of base and new."""
        if part == HM:
            cell = hm_cell(*(self.average(method, half, over) for half in HALVES))
        else:
            cell = average_cell([self.cells[name, method, part] for name in over])
        unlike = together(*(self.cells[name, method, part] for name in over))
        return replace(cell, over=tuple(over), unlike=unlike)


def grids_of(runs: Iterable[Run], metric: str = "accuracy") -> list[Grid]:
    """The grids of all trees that `runs` lie in; runs outside of every protocol are left out."""
    draw = {"base2new": _base2new, "few_shot": _few_shot, "cross_dataset": _cross_dataset}
    trees = grouped(
        (run for run in runs if run.protocol), lambda run: (run.protocol, str(run.tree))
    )
    return [
        grid
        for (protocol, _), own in trees.items()
        for grid in draw[protocol](own, methods_of(own), metric)
    ]


def grouped(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    """Runs by key, keys in natural order."""
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return {name: groups[name] for name in sorted(groups, key=natural_key)}


def shots_text(count: int) -> str:
    return f"{count} shot{'s' if count != 1 else ''}"


def _base2new(runs: list[Run], methods: Methods, metric: str) -> list[Grid]:
    """For each number of shots a grid of base, new and HM.

    HM is left out for errors: it rewards what is high on both sides.
    """
    grids = []
    for shots, members in grouped(runs, lambda run: run.shots).items():
        parts = {half: _is_split(split) for half, split in HALVES.items()}
        frame = {"title": shots_text(shots), "shots": shots, "metric": metric, "joint": True}
        grid = _grid(members, methods, parts, frame)
        grids.append(grid if metric == "error" else _with_hm(grid))
    return grids


def _few_shot(runs: list[Run], methods: Methods, metric: str) -> list[Grid]:
    counts = sorted({run.shots for run in runs})
    parts = {shots_text(count): _has_shots(count) for count in counts}
    frame = {"title": "", "shots": None, "metric": metric}
    return [_grid(runs, methods, parts, frame)]


def _cross_dataset(runs: list[Run], methods: Methods, metric: str) -> list[Grid]:
    """Per number of shots: the source, the other data sets, the ImageNet variants.

    Seeds that were trained on the source are due on every target.
    """
    grids = []
    for shots, members in grouped(runs, lambda run: run.shots).items():
        trained = [run for run in members if run.split == "train_source"]
        for kind, chosen in _kinds(members).items():
            title = f"{shots_text(shots)}, {kind}"
            frame = {"title": title, "shots": shots, "metric": metric, "kind": kind}
            if chosen:
                grids.append(_grid(chosen, methods, {metric: _any}, frame, trained))
    return grids


def _kinds(runs: list[Run]) -> dict[str, list[Run]]:
    """Runs by what they measure; the papers average the two kinds of targets separately."""
    kinds: dict[str, list[Run]] = {"source": [], "targets": [], "domain generalisation": []}
    for run in runs:
        variant = run.dataset.lower().startswith("imagenet")
        target = "domain generalisation" if variant else "targets"
        kinds["source" if run.split == "train_source" else target].append(run)
    return kinds


def _grid(
    runs: list[Run],
    methods: Methods,
    parts: dict[str, Callable[[Run], bool]],
    frame: dict[str, Any],
    trained: Sequence[Run] = (),
) -> Grid:
    """A cell per data set, method and part of `runs`; a seed of one part is due in all of them.

    `trained`: the runs whose seeds are due on every data set; `frame`: the other fields.
    """
    datasets = tuple(sorted({run.dataset for run in runs}, key=natural_key))
    here, sources = {id(run) for run in runs}, {id(run) for run in trained}
    cells: dict[Place, Cell] = {}
    for label, own in methods.runs.items():
        by_dataset = grouped((run for run in own if id(run) in here), lambda run: run.dataset)
        due = {run.seed for run in own if id(run) in sources}
        for name in datasets if by_dataset else ():
            members = by_dataset.get(name, [])
            seeds = due.union(run.seed for run in members)
            for part, belongs in parts.items():
                inside = [run for run in members if belongs(run)]
                cells[name, label, part] = cell_of(inside, frame["metric"], seeds)
    _mark_rows(cells)
    _mark_targets(cells, methods, trained)
    _mark_doubles(cells)
    return Grid(
        protocol=runs[0].protocol,
        tree=runs[0].tree,
        datasets=datasets,
        methods=tuple(dict.fromkeys(method for _, method, _ in cells)),
        parts=tuple(parts),
        cells=cells,
        about=methods.about,
        notes=tuple(methods.notes),
        **frame,
    )


def _mark_rows(cells: dict[Place, Cell]) -> None:
    """Marks the cells of a dataset's part whose methods had not the same to work with."""
    rows: dict[tuple[str, str], dict[str, Place]] = defaultdict(dict)
    for place in cells:
        name, label, part = place
        rows[name, part][label] = place
    for places in rows.values():
        unlike = among_methods({label: cells[place].runs for label, place in places.items()})
        for place in places.values() if unlike else ():
            cells[place] = marked(cells[place], unlike)


def _mark_targets(cells: dict[Place, Cell], methods: Methods, trained: Sequence[Run]) -> None:
    """Marks the cells of cross-dataset methods that did not test the same weights everywhere."""
    sources = {id(run) for run in trained}
    for label, own in methods.runs.items() if trained else ():
        places = [place for place in cells if place[1] == label]
        tested = [run for run in own if id(run) in sources]
        tested += [run for place in places for run in cells[place].runs if id(run) not in sources]
        unlike = dict.fromkeys(
            line
            for seed in sorted({run.seed for run in tested})
            for line in among_targets([run for run in tested if run.seed == seed])
        )
        for place in places if unlike else ():
            cells[place] = marked(cells[place], unlike)


def _mark_doubles(cells: dict[Place, Cell]) -> None:
    """Marks the cells of datasets that an average would count twice: `dtd` and `dtd (copy)`."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for (name, *_), cell in cells.items():
        runs[name] += cell.runs
    doubles = among_datasets(runs)
    for place in cells if doubles else ():
        if text := doubles.get(place[0]):
            cells[place] = marked(cells[place], [text])


def _with_hm(grid: Grid) -> Grid:
    hms = {
        (name, method, HM): hm_cell(*(grid.cells[name, method, half] for half in HALVES))
        for name in grid.datasets
        for method in grid.methods
    }
    return replace(grid, parts=(*grid.parts, HM), cells=grid.cells | hms)


def _any(run: Run) -> bool:
    return True


def _is_split(split: str) -> Callable[[Run], bool]:
    return lambda run: run.split == split


def _has_shots(count: int) -> Callable[[Run], bool]:
    return lambda run: run.shots == count
