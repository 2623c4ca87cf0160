"""The figures: accuracy against shots, training curves, confusion."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from tools.report.predictions import Answers
from tools.report.scalars import Curve
from tools.report.svg import MARKERS, SERIES, printable

PANEL = (4.6, 3.3)  # inches
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))

EPOCH = "train/epoch"
TRAINING = LOSSES, ACCURACY, LR = ("loss terms", "training accuracy in %", "learning rate")


@dataclass(frozen=True)
class ShotCurve:
    """One method on one data set: mean and spread over seeds, in percent, at each shots."""

    method: str
    series: int
    shots: tuple[int, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]


def look(series: int) -> dict[str, object]:
    """Colour, marker and dashes of the series with this number; the first 24 are all different."""
    return {
        "color": SERIES[series % len(SERIES)][0],
        "marker": MARKERS[series % len(MARKERS)],
        "linestyle": DASHES[series // len(SERIES) % len(DASHES)],
    }


def shots_panel(title: str, curves: Sequence[ShotCurve], ylabel: str) -> Figure:
    """One data set, or the average."""
    figure = Figure(figsize=PANEL, layout="constrained")
    _draw_shots(figure.add_subplot(), title, curves, ylabel)
    return figure


def shots_figure(panels: Mapping[str, Sequence[ShotCurve]], ylabel: str) -> Figure:
    """All panels and a legend in one figure, for a file."""
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (title, curves) in zip(axes[: len(panels)], panels.items(), strict=True):
        _draw_shots(axis, title, curves, ylabel)
    for axis in axes[len(panels) :]:
        axis.remove()
    figure.get_layout_engine().set(hspace=0.08, wspace=0.04)
    handles = {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(6, len(handles)))
    return figure


def _draw_shots(axis: Axes, title: str, curves: Iterable[ShotCurve], ylabel: str) -> None:
    ticks = set()
    for curve in curves:
        given = look(curve.series)
        axis.plot(curve.shots, curve.means, label=printable(curve.method), **given)
        low = [m - s for m, s in zip(curve.means, curve.spreads, strict=True)]
        high = [m + s for m, s in zip(curve.means, curve.spreads, strict=True)]
        axis.fill_between(curve.shots, low, high, color=given["color"], alpha=0.15, linewidth=0)
        ticks.update(curve.shots)
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(ticks), [str(tick) for tick in sorted(ticks)])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set(title=printable(title), xlabel="shots (images per class)", ylabel=ylabel)


def training_panels(curves: Mapping[str, Curve]) -> dict[str, Figure]:
    """By what they show: loss terms, training accuracy, learning rate, evaluations.

    They are drawn over epochs where `train/epoch` says which epoch a step belongs to.
    """
    groups: dict[str, dict[str, Curve]] = {}
    epochs = curves.get(EPOCH)
    for tag, curve in curves.items():
        if group := _group(tag, curve):
            groups.setdefault(group, {})[tag.partition("/")[2]] = curve
    ordered = sorted(groups, key=lambda group: (*TRAINING, group).index(group))
    return {group: _lines_panel(group, groups[group], epochs) for group in ordered}


def _group(tag: str, curve: Curve) -> str | None:
    """The panel of a tag; none for an evaluation at a single point, which is no curve."""
    split, _, name = tag.partition("/")
    if tag == EPOCH:
        return None
    if split != "train":
        return f"{split} set" if len(curve.steps) > 1 else None
    if name == "lr":
        return LR
    return ACCURACY if name.startswith("acc") else LOSSES


def _lines_panel(group: str, lines: Mapping[str, Curve], epochs: Curve | None) -> Figure:
    figure = Figure(figsize=PANEL, layout="constrained")
    axis = figure.add_subplot()
    places = {name: _places(group, curve, epochs) for name, curve in lines.items()}
    for number, (name, curve) in enumerate(lines.items()):
        given = look(number)
        few = len(curve.steps) <= 12
        axis.plot(
            *(places[name] or curve.steps, curve.values),
            label=printable(name)[:24],
            color=given["color"],
            linestyle=DASHES[number % len(DASHES)] if len(lines) > 1 else "-",
            marker=given["marker"] if few else None,
        )
    axis.set_title(printable(group))
    axis.set_xlabel("epoch" if all(places.values()) else "step")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    if len(lines) > 1:
        figure.legend(loc="outside lower center", ncols=3, fontsize=10)
    return figure


def _places(group: str, curve: Curve, epochs: Curve | None) -> list[float]:
    """The epochs that were complete at each point; none where they are not known."""
    if group not in TRAINING:  # evaluations have the epoch, from 0, as their step
        return [step + 1 for step in curve.steps]
    known = dict(zip(epochs.steps, epochs.values, strict=True)) if epochs else {}
    return [known[step] for step in curve.steps] if known.keys() >= set(curve.steps) else []


def confusion_figure(answers: Answers, names: Mapping[int, str], title: str) -> Figure:
    """Share of each class's pictures (row) by answer (column), in percent."""
    labels = answers.labels
    place = {label: i for i, label in enumerate(labels)}
    totals = answers.totals()
    shares = [[0.0] * len(labels) for _ in labels]
    for (label, answer), count in answers.counts.items():
        shares[place[label]][place[answer]] = 100 * count / totals[label]
    ticks = [printable(names.get(label, label))[:40] for label in labels]
    side = 2 + 0.32 * len(labels) + 0.1 * max(map(len, ticks))  # inches
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.add_subplot()
    axis.grid(False)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, label="share of the class's pictures in %", shrink=0.6)
    axis.set_xticks(range(len(labels)), ticks, rotation=90)
    axis.set_yticks(range(len(labels)), ticks)
    axis.set(xlabel="answer", ylabel="class")
    figure.suptitle("\n".join(textwrap.wrap(printable(title), int(8 * side))), fontsize=10)
    return figure


def swatch(series: int) -> Figure:
    """A piece of a curve, for a legend."""
    figure = Figure(figsize=(0.5, 0.2), facecolor="none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    axis.plot([0, 1, 2], [0, 0, 0], markevery=[1], **look(series))
    return figure
