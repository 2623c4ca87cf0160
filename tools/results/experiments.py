"""What is in a folder: experiments (folders of seeds), one run, or trees; and the listing of
experiments that CoOp's users know.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tools.results.aggregate import mean
from tools.results.cells import Measure, cell_of
from tools.results.grids import Grid, grouped
from tools.results.methods import Method
from tools.results.places import is_seed, natural_key
from tools.results.runs import Run, find_runs, is_run, read_run

_RUNS = "runs"
_ALIKE = ("trainer", "dataset", "shots", "split", "backbone", "load_epoch", "tested_on")


class Given(NamedTuple):
    """All runs of a folder, and the experiments that they are; none where they lie in trees."""

    runs: list[Run]
    experiments: dict[Path, list[Run]]


def find_given(directory: Path, test_log: bool = False, multi_exp: bool = False) -> Given:
    """Finds out what `directory` is. Raises OSError when it cannot be listed."""
    if multi_exp:
        experiments = {child: experiment_runs(child, test_log) for child in _folders(directory)}
        return Given([run for runs in experiments.values() for run in runs], experiments)
    if is_seed(_name(directory)):
        return _one([read_run(directory, test_log)], directory)
    children = experiment_runs(directory, test_log)
    if any(is_seed(run.path.name) for run in children):
        return _one(children, directory)
    found = find_runs(directory, test_log)
    if any(run.protocol for run in found):
        return Given(found, {})
    if children:
        return _one(children, directory)
    if len(found) == 1:
        return _one(found, found[0].path)
    return Given(found, grouped(found, lambda run: run.path.parent))


def experiment_runs(directory: Path, test_log: bool = False) -> list[Run]:
    """The runs right below `directory`: each seed<N>, even when empty, each folder with a log."""
    return [
        read_run(child, test_log)
        for child in _folders(directory)
        if is_seed(child.name) or _holds_run(child)
    ]


def experiment_text(directory: Path, runs: Iterable[Run], measure: Measure) -> str:
    """A line per run, then mean and spread over the finished ones."""
    runs = list(runs)
    values = _values(runs, measure)
    lines = [run_line(run, measure.metric) for run in runs]
    lines.append(f"outcome of directory: {directory} ({len(values)} of {len(runs)} runs)")
    if values:
        spread = measure.spread(values)
        lines.append(f"* {measure.metric}: {mean(values):.2f}% +- {spread:.2f}%")
    else:
        lines.append(f"* {measure.metric}: no finished run")
    return "\n".join(lines)


def listing(given: Given, measure: Measure, multi_exp: bool) -> str:
    """The text of every experiment, with `multi_exp` and their average."""
    texts = [experiment_text(path, runs, measure) for path, runs in given.experiments.items()]
    means = [
        mean(values) for runs in given.experiments.values() if (values := _values(runs, measure))
    ]
    if multi_exp and means:
        share = f"{len(means)} of {len(given.experiments)} experiments"
        texts.append(f"average over {share}\n* {measure.metric}: {mean(means):.2f}%")
    return "\n\n".join(texts)


def run_line(run: Run, metric: str) -> str:
    """The file and its value, or why there is none."""
    if not run.complete:
        return f"{run.state}: {run.path}: {run.reason}"
    if metric not in run.metrics:
        return f"unmeasured: {run.path}: {run.source.name} has no {metric}"
    return f"file: {run.source}. {metric}: {run.metrics[metric]:.2f}%. "


def experiment_grid(given: Given, metric: str) -> Grid:
    """Experiments outside of every tree as a grid: a row each, under the path of its folder."""
    cells = {}
    for path, runs in given.experiments.items():
        seeds = [run.seed for run in runs]
        if None in seeds or len(set(seeds)) < len(seeds):  # folders of other names than seed<N>
            seeds = range(1, len(runs) + 1)
        seeded = [replace(run, seed=seed) for run, seed in zip(runs, seeds, strict=True)]
        cells[str(path), _RUNS, metric] = cell_of(seeded, metric)
    return Grid(
        protocol="experiments",
        tree=next(iter(given.experiments)).parent,
        title="",
        shots=None,
        metric=metric,
        datasets=tuple(name for name, *_ in cells),
        methods=(_RUNS,),
        parts=(metric,),
        cells=cells,
        about={_RUNS: Method(_RUNS, "", "", "test", "")},
    )


def mixtures(experiments: dict[Path, list[Run]]) -> list[str]:
    """Warnings of experiments whose runs are not of one thing, as far as that is known."""
    lines = []
    for path, runs in experiments.items():
        for name in _ALIKE:
            values = {getattr(run, name) for run in runs if run.complete}
            if len(values - {None}) > 1:
                listed = ", ".join(sorted(map(str, values - {None})))
                lines.append(f"{path}: averaged, though its runs differ in {name}: {listed}")
    return lines


def _one(runs: Sequence[Run], directory: Path) -> Given:
    return Given(list(runs), {directory: list(runs)})


def _values(runs: Iterable[Run], measure: Measure) -> list[float]:
    return [run.metrics[measure.metric] for run in runs if measure.metric in run.metrics]


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
