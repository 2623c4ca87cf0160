"""Which runs stand on the page in full, so that a page of a thousand runs stays small; and each of
them: training curves, accuracy per class, confusion."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pandas as pd

from tools.report.material import PREDICTIONS, Material, read_material, weakest
from tools.report.page import Cell, Detail, Matrix, Section, Table, name_cell
from tools.report.plots import LONGEST, Plots, confusion_figure, training_figures
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
    seen: Counter[object] = Counter()
    ranks = {}
    for run in runs:
        seen[run.path.parent] += 1
        ranks[run.path] = seen[run.path.parent], _tested_only(run)
    best = {run.path for run in sorted(runs, key=lambda run: ranks[run.path])[: choice.details]}
    return [run for run in runs if run.path in best]


def _fits(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*{pattern}*")


def _tested_only(run: Run) -> bool:
    return run.split in ("test_new", "test_target")


def detail_section(
    runs: list[Run], path: Callable[[Run], str], choice: Choice, plots: Plots
) -> tuple[Section, list[str]]:
    """The section with a run to choose, and the files of these runs that could not be read."""
    groups: dict[str, list[tuple[str, Detail]]] = {}
    damaged: list[str] = []
    shown = chosen(runs, path, choice)
    shown.sort(key=lambda run: (str(run.protocol), _tested_only(run)))
    for number, run in enumerate(shown):
        material = read_material(run)
        damaged += material.damaged
        found = _detail(run, f"run{number}", path(run), material, choice.classes, plots)
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


def _detail(
    run: Run, key: str, path: str, material: Material, most: int | None, plots: Plots
) -> Detail:
    """`most`: so many classes are shown, the weakest ones; None: all."""
    figures = training_figures(material.curves)
    drawn = [plots.draw(f"{path} {group}", figure) for group, figure in figures.items()]
    confusion = material.confusion
    if plots.folder and confusion is not None and (most is None or len(confusion) <= most):
        plots.draw(f"{path} confusion", confusion_figure(material, path))
    shown = weakest(material.classes, most)
    left_out = len(material.classes) - len(shown)
    notes = [
        f"The {len(shown)} weakest of {len(material.classes):,} classes; all of them: "
        "`--classes all`."
    ] * (left_out > 0)
    tables = [_class_table(material, shown, notes)] if len(shown) else []
    matrix = None if confusion is None else _matrix(material, shown.index, notes)
    return Detail(key, path, _texts(run, material), drawn, tables, matrix)


def _texts(run: Run, material: Material) -> list[str]:
    metrics = ", ".join(f"{name} {value:.2f}%" for name, value in run.metrics.items())
    texts = [metrics if run.complete else f"{run.state}: {run.reason}", *material.damaged]
    longest = max(map(len, material.curves.values()), default=0)
    if not longest:
        texts.append(
            "No training curves: `tensorboard/` holds no scalars. A run that only tests has none."
        )
    elif longest > LONGEST:
        texts.append(f"Curves are drawn with at most {LONGEST} of up to {longest:,} points.")
    if material.classes.empty:
        texts.append("Accuracy per class is not recorded: `results.json` has no `per_class`.")
    if material.confusion is None:
        texts.append(f"No confusion: `{PREDICTIONS}` is written with `TEST.SAVE_PREDICTIONS True`.")
    return texts


def _class_table(material: Material, shown: pd.DataFrame, notes: list[str]) -> Table:
    header = ["class", "accuracy in %", "correct", "images"]
    header += ["most often taken for"] * (material.confusion is not None)
    rows = []
    for row in shown.itertuples():
        accuracy = Cell(f"{row.accuracy:.1f}", row.accuracy)
        if not row.total:
            accuracy = Cell("no images", None, "missing")
        counts = [Cell(f"{count:,}", count) for count in (row.correct, row.total)]
        rows.append([name_cell(row.name), accuracy, *counts])
        if material.confusion is not None:
            rows[-1].append(Cell(_taken_for(material, row.Index), kind="text"))
    return Table("Accuracy per class", header, rows, [], notes)


def _taken_for(material: Material, label: int) -> str:
    """The most frequent wrong prediction."""
    counts = material.confusion.reindex([label], fill_value=0).loc[label]
    wrong = counts.drop(label, errors="ignore")
    return f"{material.name(wrong.idxmax())} ({wrong.max()})" if wrong.any() else ""


def _matrix(material: Material, labels: pd.Index, notes: list[str]) -> Matrix:
    counts = material.confusion
    labels = counts.index.intersection(labels)
    part = counts.loc[labels, labels]
    names = [material.name(label) for label in labels]
    columns = list(names)
    if len(labels) < len(counts):
        part = part.assign(others=counts.loc[labels].sum(axis=1) - part.sum(axis=1))
        columns.append("all others")
    shares = 100 * part.div(counts.loc[labels].sum(axis=1).clip(lower=1), axis=0)
    rows = [
        (name, list(map(_shade, row))) for name, row in zip(names, shares.to_numpy(), strict=True)
    ]
    title = "Confusion: predictions (columns) of the images of each class (rows), in % of the class"
    return Matrix(title, columns, rows, notes)


def _shade(share: float) -> tuple[str, int]:
    if not share:
        return "", 0
    return f"{share:.0f}" if share >= 1 else "<1", min(9, 1 + int(share / 100 * 9))
