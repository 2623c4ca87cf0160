"""Collects the results of runs: finds out what DIRECTORY is, reads it, prints it.

    python parse_test_res.py output                        # tables of all protocols
    python parse_test_res.py output/base2new --against MMRL
    python parse_test_res.py output/few_shot --format csv > few_shot.csv
    python parse_test_res.py output/few_shot/eurosat/shots_16/MMRL/vit_b16_few_shot

A tree of base2new, few_shot or cross_dataset runs gives tables. A folder of seed<N>/ gives a line
per run, then mean and standard deviation over seeds. Numbers come from results.json, all digits,
or are recomputed from the counts in the newest finished log; logs of other CoOp-style code do as
well. A run that is unfinished, missing or not to be trusted is listed, and its cell marked; no
such run is averaged, and no such data set counts in the row of averages. Unlike runs of a folder,
such as base and new classes, are not averaged together; what differs between seeds, halves or
methods that should be alike is marked ‡. The standard deviation is the population's (numpy's
default), as in the papers.

Exit status: 0 with at least one result, even if runs are unfinished or numbers are marked ‡ (1 then
with --strict); 1 with none; 2 for bad arguments; 130 after Ctrl-C.
"""

import argparse
import difflib
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from run.command import Parser, guarded, path
from run.reader import METRICS
from tools.results.alike import among_experiments
from tools.results.frame import (
    Cell,
    Grid,
    Measure,
    Method,
    cell_of,
    differences,
    find_method,
    grids_of,
)
from tools.results.layout import is_seed, natural_key
from tools.results.published import ROWS as PUBLISHED_ROWS
from tools.results.published import Comparison
from tools.results.reader import Run, find_runs, is_run, read_run
from tools.results.tables import ROWS, TEXT_FORMATS, UNLIKE, Style, as_csv, as_json, draw_grids

_KIND = ("trainer", "classes", "shots", "split", "backbone", "load_epoch", "tested_on")
_MOST_NAMES = 5


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog="parse_test_res.py", description=__doc__)
    add = parser.add_argument
    add("directory", type=path, nargs="+", help="one: a run, an experiment, or a tree of runs")
    add(
        *("--metric", "--keyword"),
        choices=(*METRICS, "perclass_accuracy"),
        default="accuracy",
        help="which metric; perclass_accuracy is in results.json of runs with "
        "TEST.PER_CLASS_RESULT (default: accuracy)",
    )
    add("--ci95", action="store_true", help="show 1.96 * std / sqrt(n) instead of the std")
    add("--rows", choices=ROWS, help="what the rows are (default: datasets, if there are several)")
    add(
        "--format",
        choices=(*TEXT_FORMATS, "csv", "json"),
        default="simple",
        help="csv and json have all digits; all but simple print warnings on stderr",
    )
    compare = parser.add_mutually_exclusive_group()
    compare.add_argument(
        "--against", metavar="TRAINER", help="differences to TRAINER, paired by data set and seed"
    )
    compare.add_argument(
        "--published", action="store_true", help="differences to the published numbers"
    )
    add(
        "--published-row",
        choices=PUBLISHED_ROWS,
        default="paper",
        help="which published row to compare with, where a method has it: the paper's, or a rerun "
        "of the public code (default: paper)",
    )
    add(
        "--test-log",
        action="store_true",
        help="take every log as that of an evaluation: its last result counts even where epoch "
        "lines are not followed by the end of training (evaluations are recognised without it)",
    )
    add("--multi-exp", action="store_true", help="DIRECTORY holds experiments; average them too")
    add(
        "--strict",
        action="store_true",
        help="exit status 1 when a run is not complete or a number is marked ‡",
    )
    options = parser.parse_args(argv)
    if len(options.directory) > 1:
        named = ", ".join(f"'{directory}'" for directory in options.directory)
        parser.error(
            f"{len(options.directory)} directories were given, {named}, but one is allowed: give "
            "the directory that holds them, or call this once for each"
        )
    (options.directory,) = options.directory
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; return the exit status."""
    options = parse_arguments(argv)
    return guarded(lambda: _report(options), options)


def _report(options: argparse.Namespace) -> int:
    _check_directory(options.directory)
    given = find_given(options.directory, options.test_log, options.multi_exp)
    if not given.runs:
        return _nothing_found(options)
    grids = _grids_for(given, options)
    print(_text(given, grids, options).rstrip("\n"))
    if lines := _warnings(given, options):
        print("\n".join(lines), file=sys.stdout if options.format == "simple" else sys.stderr)
    complete = [run.complete for run in given.runs]
    if options.strict:
        return 0 if all(complete) and not _doubtful(given, grids, options) else 1
    return 0 if any(complete) else 1


def _check_directory(directory: Path) -> None:
    """Raises FileNotFoundError or NotADirectoryError, with names that are close."""
    if directory.is_dir():
        return
    if directory.exists():
        raise NotADirectoryError(f"'{directory}' is a file; give the folder that holds seed1, ...")
    siblings = directory.parent.iterdir() if directory.parent.is_dir() else ()
    close = difflib.get_close_matches(directory.name, [path.name for path in siblings])
    hint = f"; did you mean {' or '.join(str(directory.parent / name) for name in close)}?"
    raise FileNotFoundError(f"there is no directory '{directory}'{hint if close else ''}")


def _nothing_found(options: argparse.Namespace) -> int:
    remedy = "drop --multi-exp" if options.multi_exp else "add --multi-exp"
    print(
        f"error: no runs in '{options.directory}'. Give a folder of seed<N>/log.txt, a tree of "
        f"base2new, few_shot or cross_dataset runs, or {remedy}",
        file=sys.stderr,
    )
    return 1


def _grids_for(given: "Given", options: argparse.Namespace) -> list[Grid]:
    """Raises ValueError when --against names nobody."""
    if options.published and options.metric != "accuracy":
        raise ValueError(f"--published has accuracies only, no {options.metric}: drop --metric")
    grids = grids_of(given.runs, options.metric) or [experiment_grid(given, options.metric)]
    if not options.against:
        return grids
    note = f"no differences: {options.against} was not run here"
    return [
        differences(grid, label) if label else replace(grid, notes=(*grid.notes, note))
        for grid, label in zip(grids, find_method(grids, options.against), strict=True)
    ]


def _text(given: "Given", grids: list[Grid], options: argparse.Namespace) -> str:
    measure = Measure(options.metric, options.ci95)
    plain = options.format == "simple" and not (options.against or options.published)
    if given.experiments and plain and not options.rows:
        return listing(given, measure, options.multi_exp)
    comparison = Comparison(options.published_row) if options.published else None
    if options.format == "csv":
        return as_csv(grids, comparison)
    if options.format == "json":
        return as_json(grids, given.runs, comparison)
    return draw_grids(grids, Style(measure, options.format, options.rows, comparison))


def _warnings(given: "Given", options: argparse.Namespace) -> list[str]:
    """What makes the report less than it seems."""
    lines = []
    if not given.experiments:
        lines += [
            run_line(run, options.metric) for run in given.runs if run.protocol and not run.complete
        ]
    lines += _strays(run for run in given.runs if run.astray or not given.experiments)
    lines += [f"warning: {note}" for note in given.notes]
    lines += [f"warning: {run.path}: {note}" for run in given.runs for note in run.notes]
    if incomplete := sum(not run.complete for run in given.runs):
        lines.append(f"warning: {incomplete} of {len(given.runs)} runs unfinished and not averaged")
    return lines


def _strays(runs: Iterable[Run]) -> list[str]:
    """A line for each directory with runs that are in no table, and why."""
    found: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for run in runs:
        if not run.protocol:
            seed = is_seed(run.path.name)
            why = run.astray or ("no protocol's place" if seed else "not called seed<N>")
            found[run.path.parent, why].append(run.path.name)
    return [
        f"in no table: {f'{parent}: {_listed(names)}' if names[1:] else parent / names[0]}: {why}"
        for (parent, why), names in found.items()
    ]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + f" and {more} more" * (more > 0)


def _doubtful(given: "Given", grids: list[Grid], options: argparse.Namespace) -> bool:
    """Whether a number is marked, or a run is in no table because of what it says itself."""
    averages = by_kind(given).values() if options.multi_exp else ()
    return (
        any(cell.unlike for grid in grids for cell in grid.cells.values())
        or any(_unlike(experiments) for experiments in averages)
        or any(run.astray for run in given.runs)
    )


# ---- experiments: directories of seeds outside of trees


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
        seeds: Sequence[Any] = [run.seed for run in self.runs]
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
    """Find out what `directory` is. Raises OSError when it cannot be listed."""
    if multi_exp:
        return _given({child: _children(child, test_log) for child in _folders(directory)})
    if is_seed(directory.absolute().name):
        return _given({directory: [read_run(directory, test_log)]})
    children = _children(directory, test_log)
    if any(is_seed(run.path.name) for run in children):
        return _given({directory: children})
    found = find_runs(directory, test_log)
    if any(run.protocol for run in found):
        return Given(found, [], [])
    if children:
        return _given({directory: children})
    if len(found) == 1:
        return _given({found[0].path: found})
    by_parent: dict[Path, list[Run]] = defaultdict(list)
    for run in found:
        by_parent[run.path.parent].append(run)
    return _given({parent: by_parent[parent] for parent in sorted(by_parent, key=natural_key)})


def _folders(directory: Path) -> list[Path]:
    children = (child for child in directory.iterdir() if not child.name.startswith("."))
    return sorted((child for child in children if child.is_dir()), key=natural_key)


def _children(directory: Path, test_log: bool) -> list[Run]:
    """The runs right below `directory`: each seed<N>, even when empty, each folder with a log."""
    return [
        read_run(child, test_log)
        for child in _folders(directory)
        if is_seed(child.name) or _holds_run(child)
    ]


def _holds_run(directory: Path) -> bool:
    try:
        return is_run(directory)
    except OSError:  # what it holds is not known: an unreadable run
        return True


def _given(directories: Mapping[Path, list[Run]]) -> Given:
    """Experiments: beside seed<N> nothing else counts, and unlike kinds of runs are divided."""
    experiments, notes = [], []
    for directory, found in directories.items():
        others = [run.path.name for run in found if not is_seed(run.path.name)]
        runs = [run for run in found if is_seed(run.path.name)] or found
        if others and runs is not found:
            notes.append(f"left out, not called seed<N>: {directory}: {_listed(others)}")
        kinds = _kinds(runs, ("dataset", *_KIND))
        experiments += [Experiment(directory, kind, members) for kind, members in kinds.items()]
        if len(kinds) > 1:
            notes.append(
                f"{directory} holds {len(kinds)} kinds of runs, which are not averaged together"
            )
    return Given([run for own in experiments for run in own.runs], experiments, notes)


def _kinds(runs: Sequence[Run], names: Iterable[str]) -> dict[str, list[Run]]:
    """Runs by what they are, in words; only what is known to differ counts."""
    known = {name: {getattr(run, name) for run in runs} - {None} for name in names}
    if any(run.load_epoch for run in runs):
        known["load_epoch"] |= {"the last" for run in runs if not run.load_epoch and run.complete}
    axes = [name for name, values in known.items() if len(values) > 1]
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[", ".join(_words(run, name) for name in axes)].append(run)
    return {kind: found[kind] for kind in sorted(found, key=natural_key)}


def _words(run: Run, name: str) -> str:
    value = getattr(run, name)
    unknown = "the last" if name == "load_epoch" else "unknown"
    return f"{name.replace('_', ' ')} {unknown if value is None else value}"


def by_kind(given: Given) -> dict[str, list[Experiment]]:
    """The experiments that can be averaged: alike in all but the dataset, and the config."""
    paths = {kind: {run.path for run in runs} for kind, runs in _kinds(given.runs, _KIND).items()}
    return {
        kind: [one for one in given.experiments if one.runs and one.runs[0].path in own]
        for kind, own in paths.items()
    }


def experiment_grid(given: Given, metric: str) -> Grid:
    """Experiments outside of every tree as a grid: a row each, under the path of its directory."""
    cells = {(one.name, "runs", metric): one.cell(metric) for one in given.experiments}
    return Grid(
        protocol="experiments",
        tree=given.experiments[0].path.parent,
        title="",
        shots=None,
        metric=metric,
        datasets=tuple(name for name, *_ in cells),
        methods=("runs",),
        parts=(metric,),
        cells=cells,
        about={"runs": Method("runs", "", "", "test", "")},
    )


def listing(given: Given, measure: Measure, multi_exp: bool) -> str:
    """The text of every experiment, with `multi_exp` and their average."""
    texts = [_experiment_text(experiment, measure) for experiment in given.experiments]
    for kind, own in by_kind(given).items() if multi_exp else ():
        texts += _average_text(kind, own, measure.metric)
    return "\n\n".join(texts)


def _experiment_text(experiment: Experiment, measure: Measure) -> str:
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
    return "\n".join([*lines, *(f"{UNLIKE} {text}" for text in cell.unlike)])


def _average_text(kind: str, experiments: Sequence[Experiment], metric: str) -> list[str]:
    means = [cell.mean for one in experiments if (cell := one.cell(metric)).mean is not None]
    if not means:
        return []
    unlike = _unlike(experiments)
    share = f"{len(means)} of {len(experiments)} experiments{f', {kind}' if kind else ''}"
    text = f"average over {share}\n* {metric}: {fmean(means):.2f}%{' ‡' * bool(unlike)}"
    return ["\n".join([text, *(f"{UNLIKE} {text}" for text in unlike)])]


def _unlike(experiments: Iterable[Experiment]) -> tuple[str, ...]:
    """What makes an average of these no average of like with like."""
    return among_experiments({one.name: one.runs for one in experiments})


def run_line(run: Run, metric: str) -> str:
    """The file and its value, or why there is none."""
    if not run.complete:
        return f"{run.state}: {run.path}: {run.reason}"
    if metric not in run.metrics:
        return f"unmeasured: {run.path}: {run.source.name} has no {metric}"
    return f"file: {run.source}. {metric}: {run.metrics[metric]:.2f}%. "
