"""Which runs stand on the page in full, so that a page of a thousand runs stays small."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tools.report.details import Detail, detail, read_material
from tools.report.files import PlotFiles
from tools.report.page import Section
from tools.results import Run


@dataclass(frozen=True)
class Choice:
    """How much is shown: so many runs in full, or those whose path fits a pattern; so many
    classes of each. None: all.
    """

    details: int | None = 20
    patterns: tuple[str, ...] = ()
    classes: int | None = 50


def chosen(runs: list[Run], path: Callable[[Run], str], choice: Choice) -> list[Run]:
    """The runs to show in full: a first seed of as many experiments as possible, then second ones;
    those that trained before those that only tested.

    Raises ValueError for a pattern that fits no run.
    """
    for pattern in choice.patterns:
        if not any(_fits(path(run), pattern) for run in runs):
            raise ValueError(
                f"--run {pattern!r} fits none of the {len(runs)} runs; paths look like "
                f"'{path(runs[0])}', and * stands for anything"
            )
    if choice.patterns:
        return [r for r in runs if any(_fits(path(r), pattern) for pattern in choice.patterns)]
    if choice.details is None or len(runs) <= choice.details:
        return list(runs)
    seen: Counter[object] = Counter()
    ranks = []
    for run in runs:
        seen[run.path.parent] += 1
        ranks.append(seen[run.path.parent])
    order = sorted(range(len(runs)), key=lambda i: (ranks[i], _tested_only(runs[i])))
    return [runs[i] for i in sorted(order[: choice.details])]


def _tested_only(run: Run) -> bool:
    return run.split in ("test_new", "test_target")


def _fits(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*{pattern}*")


def detail_section(
    runs: list[Run], path: Callable[[Run], str], choice: Choice, files: PlotFiles
) -> tuple[Section, list[str]]:
    """The section with a run to choose, and the files of these runs that could not be read."""
    groups: dict[str, list[tuple[str, Detail]]] = {}
    damaged: list[str] = []
    shown = sorted(
        chosen(runs, path, choice), key=lambda run: (str(run.protocol), _tested_only(run))
    )
    for number, run in enumerate(shown):
        material = read_material(run)
        damaged += material.damaged
        found = detail(run, f"run{number}", path(run), material, choice.classes, files)
        groups.setdefault(_group(run), []).append((_name(run), found))
    texts = ["Curves of training, accuracy per class and confusion of one run."]
    if len(shown) < len(runs):
        texts.append(
            f"{len(shown)} of {len(runs):,} runs are on this page; others: `--run PATTERN` "
            "(part of a path, * for anything), more: `--details N`, all: `--details all`."
        )
    return Section("Runs in detail", texts, runs=list(groups.items())), damaged


def _group(run: Run) -> str:
    if not run.protocol:
        return "outside of the protocols' folders"
    part = run.half or run.split or "all classes"
    return f"{run.dataset}, {part.replace('_', ' ')}, {run.shots} shots ({run.protocol})"


def _name(run: Run) -> str:
    value = run.metrics.get("accuracy")
    outcome = run.state if value is None else f"{value:.2f}%"
    name = f"{run.trainer} {run.cfg}" if run.protocol else run.path.name
    return f"{name}, seed {run.seed}: {outcome}"
