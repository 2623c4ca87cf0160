"""Folders of seeds (an experiment), and folders of such folders: the listing CoOp's users know."""

from collections.abc import Iterable
from pathlib import Path

from tools.results.aggregate import mean
from tools.results.cells import Measure
from tools.results.places import is_seed, natural_key
from tools.results.runs import Run, is_run, read_run


def experiment_runs(directory: Path, test_log: bool = False) -> list[Run]:
    """The runs right below `directory`: each seed<N>, even when empty, each folder with a log."""
    return [
        read_run(child, test_log)
        for child in _folders(directory)
        if is_seed(child.name) or is_run(child)
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


def multi_experiment(
    directory: Path, measure: Measure, test_log: bool = False
) -> tuple[str, list[Run]]:
    """The listing of every experiment in `directory` with their average, and all runs."""
    experiments = {child: experiment_runs(child, test_log) for child in _folders(directory)}
    texts = [experiment_text(child, runs, measure) for child, runs in experiments.items()]
    means = [mean(values) for runs in experiments.values() if (values := _values(runs, measure))]
    if means:
        share = f"{len(means)} of {len(experiments)} experiments"
        texts.append(f"average over {share}\n* {measure.metric}: {mean(means):.2f}%")
    return "\n\n".join(texts), [run for runs in experiments.values() for run in runs]


def run_line(run: Run, metric: str) -> str:
    """The file and its value, or why there is none."""
    if not run.complete:
        return f"{run.state}: {run.path}: {run.reason}"
    if metric not in run.metrics:
        return f"unmeasured: {run.path}: {run.source.name} has no {metric}"
    return f"file: {run.source}. {metric}: {run.metrics[metric]:.2f}%. "


def _values(runs: Iterable[Run], measure: Measure) -> list[float]:
    return [run.metrics[measure.metric] for run in runs if measure.metric in run.metrics]


def _folders(directory: Path) -> list[Path]:
    children = (child for child in directory.iterdir() if not child.name.startswith("."))
    return sorted((child for child in children if child.is_dir()), key=natural_key)
