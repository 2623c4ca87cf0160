"""The figures: accuracy against shots, training curves, confusion; and figures as SVG."""

import base64
import io
import re
import textwrap
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from tools.report.material import Material
from tools.results import Grid, Measure

PANEL = (4.6, 3.3)  # inches
LONGEST = 200  # points of a curve that is drawn
# At least 4.5:1 against white, hues apart for the common kinds of color blindness; every series has
# a marker of its own besides.
SERIES = (
    *("#0067a5", "#c04000", "#00795a", "#9b2f7f"),
    *("#7d6200", "#3d3a9e", "#8a3324", "#50565e"),
)
MARKERS = "osD^vPX*"
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # the same figure is the same text
    "text.parse_math": False,  # names of classes and datasets may hold dollars
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d5d9de",
    "legend.frameon": False,
}
EPOCH = "train/epoch"
TRAINING = LOSSES, ACCURACY, LR = ("loss terms", "training accuracy in %", "learning rate")
_TAG = re.compile(r"<[^>]*>")
_DIGITS = re.compile(r"(\d+\.\d\d)\d+")


def style() -> AbstractContextManager[None]:
    """The settings under which figures are drawn and saved."""
    return rc_context(STYLE)


def svg(figure: Figure) -> str:
    """The figure as SVG, on white; places to a hundredth of a point."""
    text = io.StringIO()
    with warnings.catch_warnings():
        # the width of a letter that matplotlib's font lacks is guessed; the reader's font has it
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return _TAG.sub(lambda tag: _DIGITS.sub(r"\1", tag[0]), text.getvalue())


def data_uri(drawn: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()


class Plots:
    """Draws figures for the page and, where a folder is given, writes them there too."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.written: list[Path] = []
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def draw(self, name: str, figure: Figure) -> tuple[str, str]:
        """(name, SVG as a data URI); the file is <name>.svg, a second one gets a number."""
        drawn = svg(figure)
        if self.folder:
            stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[-150:] or "figure"
            path, number = self.folder / f"{stem}.svg", 1
            while path in self.written:
                number += 1
                path = self.folder / f"{stem}_{number}.svg"
            path.write_text(drawn, encoding="utf-8")
            self.written.append(path)
        return name, data_uri(drawn)


def printable(text: object) -> str:
    """Text without what neither XML nor UTF-8 can hold, such as control characters."""
    clean = str(text).encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", clean)


def look(series: int) -> dict[str, Any]:
    """Color, marker and dashes of the series with this number; the first 24 are all different."""
    return {
        "color": SERIES[series % len(SERIES)],
        "marker": MARKERS[series % len(MARKERS)],
        "linestyle": DASHES[series // len(SERIES) % len(DASHES)],
    }


# ---- few-shot


def shots_figures(grid: Grid, measure: Measure) -> dict[str, Figure]:
    """A panel for the average, if there are several datasets, then for each dataset.

    The average is over datasets that are complete for every method at every number of shots at
    which it was run. Shots below 1 are no place on the axis.
    """
    pairs = [(m, p) for m in grid.methods for p in grid.parts]
    panels = {name: {pair: grid.cell(name, *pair) for pair in pairs} for name in grid.datasets}
    tried = [pair for pair in pairs if any(own[pair].mean is not None for own in panels.values())]
    over = [name for name, own in panels.items() if all(own[pair].complete for pair in tried)]
    if len(grid.datasets) > 1 and over:
        share = "" if len(over) == len(grid.datasets) else f" of {len(over)}/{len(grid.datasets)}"
        panels = {f"Average{share}": {p: grid.average(*p, over) for p in tried}} | panels
    figures = {}
    for title, cells in panels.items():
        rows = [
            (method, grid.shots_of(part), cell.mean, cell.spread(measure) or 0.0)
            for (method, part), cell in cells.items()
            if cell.mean is not None and grid.shots_of(part) > 0
        ]
        points = pd.DataFrame(rows, columns=["method", "shots", "mean", "spread"])
        points = points.astype({"shots": int, "mean": float, "spread": float})
        figures[title] = _shots_figure(title, points, grid.methods, f"{measure.metric} in %")
    return figures


def _shots_figure(
    title: str, points: pd.DataFrame, methods: tuple[str, ...], ylabel: str
) -> Figure:
    figure = Figure(figsize=PANEL, layout="constrained")
    axis = figure.add_subplot()
    for number, method in enumerate(methods):
        own, given = points[points.method == method].sort_values("shots"), look(number)
        axis.plot(own.shots, own["mean"], label=printable(method)[:24], **given)
        low, high = own["mean"] - own.spread, own["mean"] + own.spread
        axis.fill_between(own.shots, low, high, color=given["color"], alpha=0.15, linewidth=0)
    ticks = sorted(points.shots.unique())
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set(title=printable(title), xlabel="shots (images per class)", ylabel=ylabel)
    if len(methods) > 1:
        figure.legend(loc="outside lower center", ncols=3, fontsize=10)
    return figure


# ---- one run


def training_figures(curves: Mapping[str, pd.Series]) -> dict[str, Figure]:
    """By what they show: loss terms, training accuracy, learning rate, evaluations.

    They are drawn over epochs where `train/epoch` says which epoch a step belongs to.
    """
    groups: dict[str, dict[str, pd.Series]] = {}
    for tag, curve in curves.items():
        if group := _group(tag, curve):
            groups.setdefault(group, {})[tag.partition("/")[2]] = curve
    ordered = sorted(groups, key=lambda group: (*TRAINING, group).index(group))
    return {group: _lines_figure(group, groups[group], curves.get(EPOCH)) for group in ordered}


def _group(tag: str, curve: pd.Series) -> str | None:
    """The panel of a tag; none for an evaluation at a single point, which is no curve."""
    split, _, name = tag.partition("/")
    if tag == EPOCH:
        return None
    if split != "train":
        return f"{split} set" if len(curve) > 1 else None
    if name == "lr":
        return LR
    return ACCURACY if name.startswith("acc") else LOSSES


def _lines_figure(group: str, lines: Mapping[str, pd.Series], epochs: pd.Series | None) -> Figure:
    figure = Figure(figsize=PANEL, layout="constrained")
    axis = figure.add_subplot()
    steps = () if epochs is None else epochs.index
    known = all(curve.index.isin(steps).all() for curve in lines.values())
    if group not in TRAINING:  # evaluations have the epoch, from 0, as their step
        lines = {name: curve.rename(lambda step: step + 1) for name, curve in lines.items()}
    elif known:
        lines = {name: curve.rename(epochs) for name, curve in lines.items()}
    for number, (name, curve) in enumerate(lines.items()):
        given = look(number)
        few = len(curve) <= 12
        every = -(-len(curve) // LONGEST)
        drawn = curve[::-1][::every][::-1]  # thinned evenly, with the last point
        dashes = DASHES[number % len(DASHES)] if len(lines) > 1 else "-"
        given |= {"linestyle": dashes, "marker": given["marker"] if few else None}
        axis.plot(drawn.index, drawn.values, label=printable(name)[:24], **given)
    axis.set_title(printable(group))
    axis.set_xlabel("epoch" if group not in TRAINING or known else "step")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    if len(lines) > 1:
        figure.legend(loc="outside lower center", ncols=3, fontsize=10)
    return figure


def confusion_figure(material: Material, title: str) -> Figure:
    """Share of each class's images (row) by prediction (column), in percent."""
    counts = material.confusion
    shares = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    ticks = [printable(material.name(label))[:40] for label in counts.index]
    side = 2 + 0.32 * len(ticks) + 0.1 * max(map(len, ticks))  # inches
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.add_subplot()
    axis.grid(False)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, label="share of the class's images in %", shrink=0.6)
    axis.set_xticks(range(len(ticks)), ticks, rotation=90)
    axis.set_yticks(range(len(ticks)), ticks)
    axis.set(xlabel="prediction", ylabel="class")
    figure.suptitle("\n".join(textwrap.wrap(printable(title), int(8 * side))), fontsize=10)
    return figure
