"""The helpers that data set files written for the CoOp code base call on its loaders.

Such files say `OxfordPets.read_split(..)` or `DTD.read_and_split_data(..)`; with these names they
work here unchanged. They speak of data with absolute paths where our own code has items.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping

from dassl.data.datasets import Datum

from . import _splits
from ._base_new import as_data, subsample_classes
from ._listing import class_paths
from ._splits import Item, Split


class CoOpNames:
    """Static methods only; FewShotDataset inherits them."""

    subsample_classes = staticmethod(subsample_classes)
    split_trainval = staticmethod(_splits.split_trainval)

    @staticmethod
    def read_split(filepath: str, path_prefix: str) -> tuple[list[Datum], ...]:
        """Train, val and test of a split file, with paths under `path_prefix`."""
        split = _splits.read_split_file(filepath, os.path.basename(path_prefix))
        return tuple(as_data(items, path_prefix) for items in split)

    @staticmethod
    def save_split(
        train: Iterable[Datum],
        val: Iterable[Datum],
        test: Iterable[Datum],
        filepath: str,
        path_prefix: str,
    ) -> None:
        """Writes a split file with paths relative to `path_prefix`."""
        parts = (
            [Item(_relative(d.impath, path_prefix), d.label, d.classname) for d in part]
            for part in (train, val, test)
        )
        _splits.save_split_file(Split(*parts), filepath)

    @staticmethod
    def read_and_split_data(
        image_dir: str,
        p_trn: float = 0.5,
        p_val: float = 0.2,
        ignored: Collection[str] = (),
        new_cnames: Mapping[str, str] | None = None,
    ) -> tuple[list[Datum], ...]:
        """Train, val and test made from one folder per class."""
        split = _splits.split_classes(class_paths(image_dir, ignored), new_cnames, p_trn, p_val)
        return tuple(as_data(items, image_dir) for items in split)


def _relative(path: str, prefix: str) -> str:
    return os.path.relpath(path, prefix).replace(os.sep, "/")
