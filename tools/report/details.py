"""One run in full: training curves, accuracy per class, confusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tools.report.elements import Cell, Plot, Table, name_cell
from tools.report.files import PlotFiles
from tools.report.plots import confusion_figure, training_panels
from tools.report.predictions import (
    Answers,
    ClassResult,
    class_name,
    class_results,
    read_answers,
    weakest,
)
from tools.report.scalars import Curve, read_curves
from tools.report.svg import inline
from tools.results.reader import Run

PREDICTIONS = "predictions.csv"


class Share(NamedTuple):
    """A cell of the confusion matrix; `level` 0 to 9 says how dark it is."""

    text: str
    level: int


@dataclass(frozen=True)
class Matrix:
    """Rows are classes, columns answers, cells the share of the class's pictures in percent."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Share]]]
    notes: list[str]


@dataclass(frozen=True)
class Material:
    """What a run's files hold beside its result; `damaged` says what could not be read."""

    curves: Mapping[str, Curve]
    classes: list[ClassResult]
    answers: Answers | None
    damaged: list[str]

    @property
    def names(self) -> dict[int, str]:
        """Class names by label, as far as they are known."""
        return {result.label: result.name for result in self.classes}


@dataclass(frozen=True)
class Detail:
    """A run's part of the page."""

    key: str
    path: str
    texts: list[str]
    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    matrix: Matrix | None = None


def read_material(run: Run) -> Material:
    """Everything there is; a file that cannot be read is noted and left out."""
    curves, damaged = read_curves(run.path / "tensorboard")
    answers, classes = None, []
    if (run.path / PREDICTIONS).is_file():
        try:
            answers = read_answers(run.path / PREDICTIONS)
        except (OSError, ValueError) as error:
            damaged.append(f"{run.path / PREDICTIONS}: {error}")
    try:
        classes = class_results(run.record, answers)
    except ValueError as error:
        damaged.append(f"{run.source}: {error}")
    return Material(curves, classes, answers, damaged)


def detail(
    run: Run, key: str, path: str, material: Material, most: int | None, files: PlotFiles
) -> Detail:
    """`most`: so many classes are shown, the weakest ones; None: all."""
    figures = training_panels(material.curves)
    for group, figure in figures.items():
        files.save(f"{path} {group}", lambda figure=figure: figure)
    answers = material.answers
    if answers and (most is None or len(answers.labels) <= most):
        files.save(f"{path} confusion", lambda: confusion_figure(answers, material.names, path))
    plots = [Plot(inline(figure, f"{group}, {path}")) for group, figure in figures.items()]
    shown = weakest(material.classes, most)
    tables = [_class_table(material, shown)] if shown else []
    matrix = _matrix(material, [result.label for result in shown]) if material.answers else None
    return Detail(key, path, _texts(run, material), plots, tables, matrix)


def _texts(run: Run, material: Material) -> list[str]:
    metrics = ", ".join(f"{name} {value:.2f}%" for name, value in run.metrics.items())
    texts = [metrics if run.complete else f"{run.state}: {run.reason}", *material.damaged]
    if not material.curves:
        texts.append(
            "No training curves: `tensorboard/` holds no scalars. A run that only tests has none."
        )
    elif thinned := [c for c in material.curves.values() if c.length > len(c.steps)]:
        most = max(thinned, key=lambda curve: curve.length)
        texts.append(f"Curves are drawn with {len(most.steps)} of up to {most.length:,} points.")
    if not material.classes:
        texts.append("Accuracy per class is not recorded: `results.json` has no `per_class`.")
    if material.answers is None:
        texts.append(f"No confusion: `{PREDICTIONS}` is written with `TEST.SAVE_PREDICTIONS True`.")
    return texts


def _class_table(material: Material, shown: Sequence[ClassResult]) -> Table:
    """A row per class."""
    taken: dict[int, str] = {}
    names = material.names
    for label, answer, count in material.answers.mistakes() if material.answers else []:
        taken.setdefault(label, f"{names.get(answer, class_name(answer))} ({count})")
    rows = [
        [
            name_cell(result.name),
            Cell("no pictures", None, "missing")
            if result.accuracy is None
            else Cell(f"{result.accuracy:.1f}", result.accuracy),
            Cell(f"{result.correct:,}", result.correct),
            Cell(f"{result.total:,}", result.total),
            *([Cell(taken.get(result.label, ""), kind="text")] if material.answers else []),
        ]
        for result in shown
    ]
    header = ["class", "accuracy in %", "correct", "pictures"]
    header += ["most often taken for"] if material.answers else []
    return Table("Accuracy per class", header, rows, [], _left_out(material, len(shown)))


def _left_out(material: Material, shown: int) -> list[str]:
    count = len(material.classes)
    if shown == count:
        return []
    return [f"The {shown} weakest of {count:,} classes; all of them: `--classes all`."]


def _matrix(material: Material, labels: Sequence[int]) -> Matrix:
    answers, names = material.answers, material.names
    totals = answers.totals()
    columns = [label for label in answers.labels if label in set(labels)]
    rest = len(columns) < len(answers.labels)
    rows = []
    for label in columns:
        counts = [answers.counts[label, answer] for answer in columns]
        if rest:
            counts.append(totals[label] - sum(counts))
        rows.append(
            (names.get(label, class_name(label)), [_share(c, totals[label]) for c in counts])
        )
    header = [names.get(label, class_name(label)) for label in columns] + ["all others"] * rest
    title = "Confusion: answers (columns) to the pictures of each class (rows), in % of the class"
    return Matrix(title, header, rows, _left_out(material, len(columns)) if rest else [])


def _share(count: int, total: int) -> Share:
    if not count:
        return Share("", 0)
    share = 100 * count / total
    return Share(f"{share:.0f}" if share >= 1 else "<1", min(9, 1 + int(share / 100 * 9)))
