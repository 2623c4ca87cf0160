"""Which runs are of one method, so that a cell never mixes two.

A method is a trainer with one variant of its settings, one backbone and one kind of images it was
tested on; its label says of these only what is needed to tell the methods of a tree apart.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tools.results.places import natural_key
from tools.results.runs import Run


class Method(NamedTuple):
    """What must agree; `epoch` is set only where the seeds of one cell were tested with several."""

    trainer: str
    cfg: str
    backbone: str
    tested_on: str
    epoch: str


class Methods(NamedTuple):
    """The methods of a tree: runs by label, in natural order, and what must be said of them."""

    runs: dict[str, list[Run]]
    about: dict[str, Method]
    notes: list[str]


def methods_of(runs: Sequence[Run]) -> Methods:
    """Divides the runs of one tree into methods.

    ImageNet often has a variant of its own (more images, larger batches): one that was run on
    ImageNet only joins the variant that was run on the other data sets, and a note says so.
    """
    notes: list[str] = []
    epochs = _mixed_epochs(runs, notes)
    backbones = _backbones(runs, notes)
    found: dict[Method, list[Run]] = defaultdict(list)
    for run in runs:
        backbone = backbones.get(run.trainer, run.backbone or "an unknown backbone")
        tested_on = "val" if run.tested_on == "val" else "test"
        epoch = str(run.load_epoch or "the last") if _spot(run) in epochs else ""
        found[Method(run.trainer, run.cfg, backbone, tested_on, epoch)].append(run)
    _join_imagenet(found, notes)
    labels = _labels(found)
    ordered = sorted(found, key=lambda method: natural_key(labels[method]))
    by_label = {labels[method]: found[method] for method in ordered}
    return Methods(by_label, {labels[method]: method for method in ordered}, notes)


def _spot(run: Run) -> tuple:
    return run.trainer, run.cfg, run.backbone, run.split, run.dataset, run.shots


def _mixed_epochs(runs: Iterable[Run], notes: list[str]) -> set[tuple]:
    """The cells whose seeds were tested with the weights of different epochs."""
    asked: dict[tuple, set[int | None]] = defaultdict(set)
    for run in runs:
        if run.complete:
            asked[_spot(run)].add(run.load_epoch)
    mixed = {spot for spot, epochs in asked.items() if len(epochs) > 1}
    for trainer, *_, split, dataset, _ in sorted(mixed, key=natural_key):
        notes.append(
            f"{trainer}, {dataset}{f', {split}' if split else ''}: seeds were tested with the "
            "weights of different epochs, which are kept apart"
        )
    return mixed


def _backbones(runs: Iterable[Run], notes: list[str]) -> dict[str, str]:
    """The backbone by trainer, where all runs that name one name the same."""
    named: dict[str, set[str | None]] = defaultdict(set)
    for run in runs:
        named[run.trainer].add(run.backbone if run.complete else None)
    for trainer, names in named.items():
        if len(names - {None}) > 1:
            shown = ", ".join(sorted(names - {None}))
            notes.append(f"{trainer} was run on several backbones, which are kept apart: {shown}")
    return {
        trainer: next(iter(names - {None}), "")
        for trainer, names in named.items()
        if len(names - {None}) <= 1
    }


def _join_imagenet(found: dict[Method, list[Run]], notes: list[str]) -> None:
    """Moves the runs of ImageNet's own variants to the variants of the other data sets."""
    datasets = {method: {run.dataset for run in runs} for method, runs in found.items()}
    own = [method for method, names in datasets.items() if names == {"imagenet"}]
    for method in own:
        alike = [other for other in datasets if _but_for_variant(other) == _but_for_variant(method)]
        rest = [other for other in alike if "imagenet" not in datasets[other]]
        rivals = [other for other in own if other in alike]
        variant, at, tag = method.cfg.partition("@")
        named = [r for r in rest if variant == f"{r.cfg.removesuffix(at + tag)}_imagenet"]
        chosen = named or (rest if len(rivals) == 1 else [])
        if len(chosen) == 1:
            found[chosen[0]] += found.pop(method)
            notes.append(
                f"{method.trainer}: imagenet with the settings {method.cfg}, "
                f"other data sets with {chosen[0].cfg}"
            )


def _but_for_variant(method: Method) -> Method:
    """What must agree besides the variant; a sweep's --tag stands behind it, as <cfg>@<tag>."""
    _, at, tag = method.cfg.partition("@")
    return method._replace(cfg=at + tag)


def _labels(found: Iterable[Method]) -> dict[Method, str]:
    """The trainer, and of the rest what differs between the methods of one trainer."""
    alike: dict[str, list[Method]] = defaultdict(list)
    for method in found:
        alike[method.trainer].append(method)
    return {
        method: _label(method, [len(set(column)) > 1 for column in zip(*same, strict=True)])
        for same in alike.values()
        for method in same
    }


def _label(method: Method, differs: list[bool]) -> str:
    label = f"{method.trainer}/{method.cfg}" if differs[1] else method.trainer
    if differs[2]:
        label += f" on {method.backbone}"
    if method.tested_on != "test":
        label += " (validation images)"
    if method.epoch:
        label += f" (epoch {method.epoch})"
    return label
