"""What is in a folder: experiments (folders of seeds), one run, or trees; and the listing of
experiments that CoOp's users know.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tools.results.aggregate import mean
from tools.results.alike import among_experiments
from tools.results.cells import Cell, Measure, cell_of
from tools.results.grids import Grid, grouped
from tools.results.methods import Method
from tools.results.places import is_seed, natural_key
from tools.results.runs import Run, find_runs, is_run, read_run

_RUNS = "runs"
_KIND = ("trainer", "classes", "shots", "split", "backbone", "load_epoch", "tested_on")
_MOST_NAMES = 5


class Experiment(NamedTuple):
    """Runs that are seeds of one thing; `kind` says of which, if their directory holds several."""

    path: Path
    kind: str
    runs: list[Run]

    @property
    def name(self) -> str:
        return f"{self.path}, {self.kind}" if self.kind else str(self.path)

    def cell(self, metric: str) -> Cell:
        """Runs in directories of other names than seed<N> are numbered."""
        seeds = [run.seed for run in self.runs]
        if None in seeds or len(set(seeds)) < len(seeds):
            seeds = range(1, len(seeds) + 1)
        seeded = [replace(run, seed=seed) for run, seed in zip(self.runs, seeds, strict=True)]
        return cell_of(seeded, metric)


class Given(NamedTuple):
    """All runs of a directory, the experiments that they are (none where they lie in trees), and
    what must be said of how they were divided."""

    runs: list[Run]
    experiments: list[Experiment]
    notes: list[str]


def find_given(directory: Path, test_log: bool = False, multi_exp: bool = False) -> Given:
    """Finds out what `directory` is. Raises OSError when it cannot be listed."""
    if multi_exp:
        return _given({child: experiment_runs(child, test_log) for child in _folders(directory)})
    if is_seed(_name(directory)):
        return _given({directory: [read_run(directory, test_log)]})
    children = experiment_runs(directory, test_log)
    if any(is_seed(run.path.name) for run in children):
        return _given({directory: children})
    found = find_runs(directory, test_log)
    if any(run.protocol for run in found):
        return Given(found, [], [])
    if children:
        return _given({directory: children})
    if len(found) == 1:
        return _given({found[0].path: found})
    return _given(grouped(found, lambda run: run.path.parent))


def _given(directories: Mapping[Path, list[Run]]) -> Given:
    """Experiments: beside seed<N> nothing else counts, and unlike kinds of runs are divided."""
    experiments, notes = [], []
    for path, found in directories.items():
        others = [run.path.name for run in found if not is_seed(run.path.name)]
        runs = [run for run in found if is_seed(run.path.name)] or found
        if others and runs is not found:
            notes.append(f"left out, not called seed<N>: {path}: {_listed(others)}")
        parts = divided(runs, ("dataset", *_KIND))
        experiments += [Experiment(path, kind, members) for kind, members in parts.items()]
        if len(parts) > 1:
            notes.append(
                f"{path} holds {len(parts)} kinds of runs, which are not averaged together"
            )
    return Given([run for own in experiments for run in own.runs], experiments, notes)


def divided(runs: Sequence[Run], names: Iterable[str]) -> dict[str, list[Run]]:
    """Runs by what they are, in words; only what is known to differ counts."""
    known = {name: {getattr(run, name) for run in runs} - {None} for name in names}
    if any(run.load_epoch for run in runs):
        known["load_epoch"] |= {"the last" for run in runs if not run.load_epoch and run.complete}
    axes = [name for name, values in known.items() if len(values) > 1]
    return grouped(runs, lambda run: ", ".join(_words(run, name) for name in axes))


def _words(run: Run, name: str) -> str:
    value = getattr(run, name)
    unknown = "the last" if name == "load_epoch" else "unknown"
    return f"{name.replace('_', ' ')} {unknown if value is None else value}"


def experiment_runs(directory: Path, test_log: bool = False) -> list[Run]:
    """The runs right below `directory`: each seed<N>, even when empty, each folder with a log."""
    return [
        read_run(child, test_log)
        for child in _folders(directory)
        if is_seed(child.name) or _holds_run(child)
    ]


def experiment_text(experiment: Experiment, measure: Measure) -> str:
    """A line per run, then mean and spread over the finished ones."""
    runs, metric = experiment.runs, measure.metric
    cell = experiment.cell(metric)
    lines = [run_line(run, metric) for run in runs]
    lines.append(
        f"outcome of directory: {experiment.name} ({len(cell.values)} of {len(runs)} runs)"
    )
    if cell.mean is None:
        return "\n".join([*lines, f"* {metric}: no finished run"])
    spread = measure.spread(list(cell.values.values()))
    lines.append(f"* {metric}: {cell.mean:.2f}% +- {spread:.2f}%{' ‡' * bool(cell.unlike)}")
    return "\n".join([*lines, *_marks(cell.unlike)])


def listing(given: Given, measure: Measure, multi_exp: bool) -> str:
    """The text of every experiment, with `multi_exp` and their average."""
    texts = [experiment_text(experiment, measure) for experiment in given.experiments]
    for kind, own in by_kind(given).items() if multi_exp else ():
        texts += _average_text(kind, own, measure.metric)
    return "\n\n".join(texts)


def by_kind(given: Given) -> dict[str, list[Experiment]]:
    """The experiments that can be averaged: alike in all but the dataset, and the config."""
    paths = {kind: {run.path for run in runs} for kind, runs in divided(given.runs, _KIND).items()}
    return {
        kind: [one for one in given.experiments if one.runs and one.runs[0].path in own]
        for kind, own in paths.items()
    }


def _average_text(kind: str, experiments: Sequence[Experiment], metric: str) -> list[str]:
    means = [cell.mean for one in experiments if (cell := one.cell(metric)).mean is not None]
    if not means:
        return []
    unlike = unlike_experiments(experiments)
    share = f"{len(means)} of {len(experiments)} experiments{f', {kind}' if kind else ''}"
    text = f"average over {share}\n* {metric}: {mean(means):.2f}%{' ‡' * bool(unlike)}"
    return ["\n".join([text, *_marks(unlike)])]


def unlike_experiments(experiments: Iterable[Experiment]) -> tuple[str, ...]:
    """What makes an average of these no average of like with like."""
    return among_experiments({one.name: one.runs for one in experiments})


def _marks(unlike: Iterable[str]) -> list[str]:
    return [f"‡ {text}" for text in unlike]


def run_line(run: Run, metric: str) -> str:
    """The file and its value, or why there is none."""
    if not run.complete:
        return f"{run.state}: {run.path}: {run.reason}"
    if metric not in run.metrics:
        return f"unmeasured: {run.path}: {run.source.name} has no {metric}"
    return f"file: {run.source}. {metric}: {run.metrics[metric]:.2f}%. "


def experiment_grid(given: Given, metric: str) -> Grid:
    """Experiments outside of every tree as a grid: a row each, under the path of its directory."""
    cells = {(one.name, _RUNS, metric): one.cell(metric) for one in given.experiments}
    return Grid(
        protocol="experiments",
        tree=given.experiments[0].path.parent,
        title="",
        shots=None,
        metric=metric,
        datasets=tuple(name for name, *_ in cells),
        methods=(_RUNS,),
        parts=(metric,),
        cells=cells,
        about={_RUNS: Method(_RUNS, "", "", "test", "")},
    )


def strays(runs: Iterable[Run]) -> list[str]:
    """A line for each directory with runs that are in no table, and why."""
    found: dict[tuple[Path, str], list[str]] = {}
    for run in runs:
        if not run.protocol:
            name = is_seed(run.path.name)
            why = run.astray or ("no protocol's place" if name else "not called seed<N>")
            found.setdefault((run.path.parent, why), []).append(run.path.name)
    lines = []
    for (parent, why), names in found.items():
        where = f"{parent}: {_listed(names)}" if len(names) > 1 else parent / names[0]
        lines.append(f"in no table: {where}: {why}")
    return lines


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + f" and {more} more" * (more > 0)


def _name(directory: Path) -> str:
    return directory.absolute().name


def _holds_run(path: Path) -> bool:
    try:
        return is_run(path)
    except OSError:  # what it holds is not known: an unreadable run
        return True


def _folders(directory: Path) -> list[Path]:
    children = (child for child in directory.iterdir() if not child.name.startswith("."))
    return sorted((child for child in children if child.is_dir()), key=natural_key)
