"""Items as the engine's data, and the base/new halves of the classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from dassl.data.datasets import Datum

from ._splits import Item

SUBSAMPLES = ("all", "base", "new")


def as_data(items: Iterable[Item], image_dir: str) -> list[Datum]:
    return [
        Datum(impath=f"{image_dir}/{path}", label=label, classname=name)
        for path, label, name in items
    ]


def check_subsample(subsample: str) -> None:
    if subsample not in SUBSAMPLES:
        raise ValueError(
            f"DATASET.SUBSAMPLE_CLASSES is {subsample!r}; allowed: {', '.join(SUBSAMPLES)}"
        )


def subsample_classes(*splits: Sequence[Datum], subsample: str = "all") -> list[list[Datum]]:
    """Keeps the first ceil(n/2) of the sorted labels ('base') or the others ('new').

    The labels kept are numbered from 0 again. 'all' leaves everything as it is.
    """
    check_subsample(subsample)
    if subsample == "all":
        return [list(split) for split in splits]
    labels = sorted({datum.label for split in splits for datum in split})
    half = math.ceil(len(labels) / 2)
    kept = labels[:half] if subsample == "base" else labels[half:]
    if len(labels) < 2:
        raise ValueError(
            f"base and new classes need at least two classes, this data set has {len(labels)}; "
            "add others"
        )
    new_label = {label: index for index, label in enumerate(kept)}
    halves = [
        [relabel(datum, new_label[datum.label]) for datum in split if datum.label in new_label]
        for split in splits
    ]
    for split, half_split in zip(splits, halves, strict=True):
        if split and not half_split:
            raise ValueError(f"one of train, val, test has no image of the {subsample} classes")
    return halves


def relabel(datum: Datum, label: int) -> Datum:
    return Datum(impath=datum.impath, label=label, domain=datum.domain, classname=datum.classname)
