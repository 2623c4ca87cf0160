"""Collects the results of runs.

    # seeds of one experiment; several experiments; tables of all protocols
    python parse_test_res.py output/few_shot/eurosat/shots_16/MMRL/vit_b16_few_shot
    python parse_test_res.py output/few_shot/eurosat/shots_16/MMRL --multi-exp
    python parse_test_res.py output

A folder of seed<N>/ gives a line per run, then mean and standard deviation over seeds. A tree of
base2new, few_shot or cross_dataset runs gives tables. Numbers come from results.json, all digits,
or are recomputed from the counts in the newest finished log. A run without a sound result is
listed and never averaged. The standard deviation is the population's (numpy's default), as in
the papers.

Exit status: 0 with at least one result, 1 with none, 2 for bad arguments.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.results.cells import Measure
from tools.results.experiments import (
    experiment_runs,
    experiment_text,
    multi_experiment,
    run_line,
)
from tools.results.grids import grids_of
from tools.results.logs import METRICS
from tools.results.places import is_seed
from tools.results.runs import Run, find_runs, is_run, read_run
from tools.results.tables import Style, draw_grids


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="an experiment, or a tree of runs")
    parser.add_argument(
        "--ci95", action="store_true", help="show 1.96 * std / sqrt(n) instead of the std"
    )
    parser.add_argument(
        "--test-log",
        action="store_true",
        help="take every log as that of an evaluation: its last result counts even where epoch "
        "lines are not followed by the end of training (evaluations are recognised without it)",
    )
    parser.add_argument(
        "--multi-exp", action="store_true", help="DIRECTORY holds experiments; average them too"
    )
    parser.add_argument("--keyword", choices=METRICS, default="accuracy", help="which metric")
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


def report(
    directory: Path, measure: Measure, test_log: bool, multi_exp: bool
) -> tuple[str, list[Run]]:
    """The text for what `directory` is, and the runs found in it."""
    if multi_exp:
        return multi_experiment(directory, measure, test_log)
    runs = experiment_runs(directory, test_log)
    if not is_seed(directory.name) and not any(is_seed(run.path.name) for run in runs):
        found = find_runs(directory, test_log)
        if placed := [run for run in found if run.protocol]:
            lines = [run_line(run, measure.metric) for run in placed if not run.metrics]
            lines += [f"in no table: {run.path}" for run in found if not run.protocol]
            return "\n".join(
                [draw_grids(grids_of(placed, measure.metric), Style(measure)), "", *lines]
            ), placed
    if not runs and (is_seed(directory.name) or is_run(directory)):
        runs = [read_run(directory, test_log)]
    return experiment_text(directory, runs, measure), runs


def warnings(runs: list[Run]) -> list[str]:
    """What makes the report less than it seems."""
    lines = [f"warning: {run.path}: {note}" for run in runs for note in run.notes]
    unfinished = sum(not run.complete for run in runs)
    if unfinished:
        lines.append(f"warning: {unfinished} of {len(runs)} runs unfinished and not averaged")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    given = parse_arguments(argv)
    try:
        check_directory(given.directory)
        text, runs = report(
            given.directory, Measure(given.keyword, given.ci95), given.test_log, given.multi_exp
        )
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not runs:
        remedy = "drop --multi-exp" if given.multi_exp else "add --multi-exp"
        print(
            f"error: no runs in '{given.directory}'. Give a folder of seed<N>/log.txt, a tree of "
            f"base2new, few_shot or cross_dataset runs, or {remedy}",
            file=sys.stderr,
        )
        return 1
    print("\n".join([text.rstrip("\n"), *warnings(runs)]))
    return 0 if any(run.metrics for run in runs) else 1


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # terminals without '±', odd file names
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # piped into something like `head`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
