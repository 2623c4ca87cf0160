"""Everything that runs have to say, as one HTML page that needs no network.

    python -m tools.report output -o report.html

Tables of all protocols, few-shot curves; for a chosen run training curves, accuracy per class
and confusion; cost, settings that differ, environment.

Exit status: 0 done; 1 done, but files were left out that could not be read; 2 bad arguments.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from run.command import Parser, guarded, path, piped
from tools.results import Measure, Run, find_runs


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.report", description=__doc__)
    add = parser.add_argument
    add("output", type=path, help="a folder of runs, such as output/")
    add("-o", "--out", type=path, default=Path("report.html"), help="the page (%(default)s)")
    add("--plots", type=path, metavar="DIR", help="write the figures there too, as SVG files")
    add(
        "--metric",
        choices=("accuracy", "macro_f1", "error"),
        default="accuracy",
        help="(%(default)s)",
    )
    add("--ci95", action="store_true", help="1.96 * std / sqrt(n) instead of the std")
    text = "so many runs in full, or 'all' (%(default)s)"
    add("--details", type=_count, default=20, metavar="N", help=text)
    text = "in full only runs whose path has this part, * for anything; repeatable"
    add("--run", action="append", default=[], metavar="PATTERN", help=text)
    text = "so many classes of a run, the weakest, or 'all' (%(default)s)"
    add("--classes", type=_count, default=50, metavar="N", help=text)
    return parser.parse_args(argv)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"a whole number or 'all', not {text!r}")
    return int(text)


def check(given: argparse.Namespace) -> None:
    """Raises FileNotFoundError or NotADirectoryError for what cannot work."""
    if not given.output.is_dir():
        if given.output.exists():
            raise NotADirectoryError(f"'{given.output}' is a file; give a folder of runs")
        parent = given.output.parent
        names = [path.name for path in parent.iterdir()] if parent.is_dir() else []
        close = difflib.get_close_matches(given.output.name, names, n=1)
        hint = f"; did you mean '{parent / close[0]}'?" if close else ""
        raise FileNotFoundError(f"there is no folder '{given.output}'{hint}")
    if given.out.is_dir():
        raise IsADirectoryError(f"-o '{given.out}' is a folder; give a file, as in report.html")
    if not given.out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder '{given.out.parent}' for the page (-o)")


def main(argv: Sequence[str] | None = None) -> int:
    given = parse_arguments(argv)
    return guarded(lambda: report(given), given)


def report(given: argparse.Namespace) -> int:
    """The exit status; raises OSError or ValueError for what cannot be reported on."""
    check(given)
    runs = find_runs(given.output)
    if not runs:
        raise FileNotFoundError(
            f"no runs in '{given.output}': a run is a folder with log.txt or results.json"
        )
    damaged = write_report(given, runs)
    for line in damaged:
        print(f"could not be read: {line}", file=sys.stderr)
    return 1 if damaged else 0


def write_report(given: argparse.Namespace, runs: list[Run]) -> list[str]:
    """Write the page and, on request, the plots; the files that could not be read."""
    from tools.report import sections  # late: --help must not wait for matplotlib
    from tools.report.page import render
    from tools.report.plots import Plots, style
    from tools.report.selection import Choice

    choice = Choice(given.details, tuple(given.run), given.classes)
    report = sections.Report(given.output, runs, Measure(given.metric, given.ci95), choice)
    plots = Plots(given.plots)
    with style():
        page, damaged = sections.build(report, plots)
    text = render(page)
    given.out.write_text(text, encoding="utf-8")
    complete = sum(run.complete for run in runs)
    print(f"{given.out}: {len(runs)} runs, {complete} complete, {len(text) / 2**20:.1f} MiB")
    if plots.written:
        print(f"{given.plots}: {len(plots.written)} plots")
    return damaged


if __name__ == "__main__":
    sys.exit(piped(main))
