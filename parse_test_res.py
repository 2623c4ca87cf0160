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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from run.command import Parser, path, piped
from run.exact import METRICS
from tools.results.against import differences, find_method
from tools.results.cells import Measure
from tools.results.experiments import (
    Given,
    by_kind,
    experiment_grid,
    find_given,
    listing,
    run_line,
    strays,
    unlike_experiments,
)
from tools.results.grids import Grid, grids_of
from tools.results.machine import as_csv, as_json
from tools.results.published import ROWS as PUBLISHED_ROWS
from tools.results.published import Comparison
from tools.results.tables import ROWS, TEXT_FORMATS, Style, draw_grids


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("directory", type=path, help="a run, an experiment, or a tree of runs")
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
    return parser.parse_args(argv)


def check_directory(directory: Path) -> None:
    """Raises FileNotFoundError or NotADirectoryError, with names that are close."""
    if directory.is_dir():
        return
    if directory.exists():
        raise NotADirectoryError(f"'{directory}' is a file; give the folder that holds seed1, ...")
    siblings = directory.parent.iterdir() if directory.parent.is_dir() else ()
    close = difflib.get_close_matches(directory.name, [path.name for path in siblings])
    hint = f"; did you mean {' or '.join(str(directory.parent / name) for name in close)}?"
    raise FileNotFoundError(f"there is no directory '{directory}'{hint if close else ''}")


def grids_for(given: Given, options: argparse.Namespace) -> list[Grid]:
    """What is known, for tables. Raises ValueError when --against names nobody."""
    if options.published and options.metric != "accuracy":
        raise ValueError(f"--published has accuracies only, no {options.metric}: drop --metric")
    grids = grids_of(given.runs, options.metric)
    if not grids:
        grids = [experiment_grid(given, options.metric)]
    return against(grids, options.against) if options.against else grids


def report(given: Given, grids: list[Grid], options: argparse.Namespace) -> str:
    """What is printed."""
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


def against(grids: list[Grid], trainer: str) -> list[Grid]:
    """Differences to `trainer` in every grid that has it; the others stay as they are."""
    return [
        differences(grid, label)
        if label
        else replace(grid, notes=(*grid.notes, f"no differences: {trainer} was not run here"))
        for grid, label in zip(grids, find_method(grids, trainer), strict=True)
    ]


def warnings(given: Given, options: argparse.Namespace) -> list[str]:
    """What makes the report less than it seems."""
    lines = []
    if not given.experiments:
        placed = [run for run in given.runs if run.protocol]
        lines += [run_line(run, options.metric) for run in placed if not run.complete]
    lines += strays(run for run in given.runs if run.astray or not given.experiments)
    lines += [f"warning: {note}" for note in given.notes]
    lines += [f"warning: {run.path}: {note}" for run in given.runs for note in run.notes]
    incomplete = sum(not run.complete for run in given.runs)
    if incomplete:
        lines.append(f"warning: {incomplete} of {len(given.runs)} runs unfinished and not averaged")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    options = parse_arguments(argv)
    try:
        check_directory(options.directory)
        given = find_given(options.directory, options.test_log, options.multi_exp)
        if not given.runs:
            return nothing_found(options)
        grids = grids_for(given, options)
        text = report(given, grids, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        if "debug" in options:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text.rstrip("\n"))
    lines = warnings(given, options)
    if lines:
        print("\n".join(lines), file=sys.stdout if options.format == "simple" else sys.stderr)
    complete = [run.complete for run in given.runs]
    if options.strict:
        return 0 if all(complete) and not doubtful(given, grids, options) else 1
    return 0 if any(complete) else 1


def doubtful(given: Given, grids: list[Grid], options: argparse.Namespace) -> bool:
    """Whether a number is marked as not of one experiment, or a run has no place because of what
    it says itself."""
    averages = by_kind(given).values() if options.multi_exp else ()
    return (
        any(cell.unlike for grid in grids for cell in grid.cells.values())
        or any(unlike_experiments(experiments) for experiments in averages)
        or any(run.astray for run in given.runs)
    )


def nothing_found(options: argparse.Namespace) -> int:
    """Says so, and what to give instead."""
    remedy = "drop --multi-exp" if options.multi_exp else "add --multi-exp"
    print(
        f"error: no runs in '{options.directory}'. Give a folder of seed<N>/log.txt, a tree of "
        f"base2new, few_shot or cross_dataset runs, or {remedy}",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(piped(main))
