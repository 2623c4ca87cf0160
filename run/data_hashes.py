"""Hashes of the images that a run trains and tests on, the same on every machine."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

from dassl.data.datasets import Datum
from dassl.engine import SimpleTrainer


def few_shot_hash(trainer: SimpleTrainer) -> str:
    """SHA-256 of the training images: sorted paths below the dataset's directory, and labels.

    Paths have '/' and composed accents (NFC) on every system.
    """
    items = trainer.dm.dataset.train_x
    return _hash(f"{path}\t{item.label}" for path, item in _listed(trainer, items))


def data_hash(trainer: SimpleTrainer, trains: bool) -> str | None:
    """SHA-256 of all images that a run uses, as `few_shot_hash`, with class names.

    If it only tests: of its test images. None for a plugin without lists.
    """
    dataset = getattr(getattr(trainer, "dm", None), "dataset", None)
    if dataset is None:
        return None
    split = "val" if trainer.cfg.TEST.SPLIT == "val" and dataset.val else "test"
    lists = ("train_x", "train_u", "val", "test") if trains else (split,)
    return _hash(
        f"{name}\t{path}\t{item.label}\t{unicodedata.normalize('NFC', item.classname)}"
        for name in lists
        for path, item in _listed(trainer, getattr(dataset, name) or [])
    )


def relative_paths(trainer: SimpleTrainer, items: Iterable[Datum]) -> list[str]:
    """Paths below the dataset's directory; absolute ones for images elsewhere."""
    folder = getattr(trainer.dm.dataset, "dataset_dir", "")
    root = os.path.abspath(os.path.join(trainer.cfg.DATASET.ROOT, folder)) + os.sep
    paths = (os.path.abspath(item.impath).removeprefix(root) for item in items)
    return [PurePath(path).as_posix() for path in paths]


def _listed(trainer: SimpleTrainer, items: list[Datum]) -> Iterable[tuple[str, Datum]]:
    paths = relative_paths(trainer, items)
    return zip((unicodedata.normalize("NFC", path) for path in paths), items, strict=True)


def _hash(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in sorted(f"{line}\n" for line in lines):
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
