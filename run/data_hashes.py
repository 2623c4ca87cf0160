"""What a run trains and tests on, as hashes that are the same on every machine."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

from dassl.data.datasets import Datum
from dassl.engine import SimpleTrainer


def few_shot_hash(trainer: SimpleTrainer) -> str:
    """SHA-256 of what was trained on: paths in the data set's folder and labels, sorted.

    It does not depend on where the data set is, nor on the system: '/' separates folders, and
    letters with accents are composed (NFC).
    """
    items = trainer.dm.dataset.train_x
    return _hash(f"{path}\t{item.label}" for path, item in _listed(trainer, items))


def data_hash(trainer: SimpleTrainer, trains: bool) -> str | None:
    """SHA-256 of all lists that a run uses, as `few_shot_hash`, with the names of the classes.

    Of one that only tests: the images that it is tested on. None for a plugin without lists.
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
    """Where images are in the data set's folder; of those elsewhere, where they are."""
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
