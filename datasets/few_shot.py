"""What every dataset shares: its place on disk, its split, the few-shot draw, base/new classes.

A dataset is a subclass of FewShotDataset that says where its images are, how its split is
made where there is no split file, and the template its class names are put into.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dassl.data.datasets import DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY

from . import _coop, _splits
from ._cache import Draw, fingerprint, load_draw, store_draw
from ._coop import CoOpNames, as_data
from ._files import CACHE_NAME, class_paths, read_rows
from ._missing import Place, check_place, data_root, download_command, missing
from ._splits import Item, Split, split_classes, split_trainval

__all__ = [
    "FewShotDataset",
    "Item",
    "Split",
    "class_paths",
    "short_of_shots",
    "split_classes",
    "split_trainval",
    "subsample_classes",
]

SUBSAMPLES = ("all", "base", "new")
MAX_VAL_SHOTS = 4


def check_subsample(subsample: str) -> None:
    if subsample not in SUBSAMPLES:
        raise ValueError(
            f"DATASET.SUBSAMPLE_CLASSES is {subsample!r}; allowed: {', '.join(SUBSAMPLES)}"
        )


def subsample_classes(*splits: Sequence[Datum], subsample: str = "all") -> list[list[Datum]]:
    """Keep the first ceil(n/2) of the sorted labels ('base') or the others ('new').

    The labels kept are numbered from 0 again. 'all' leaves everything as it is.
    """
    check_subsample(subsample)
    if subsample == "all":
        return [list(split) for split in splits]
    labels = sorted({datum.label for split in splits for datum in split})
    if len(labels) < 2:
        raise ValueError(
            f"base and new classes need at least two classes, this dataset has {len(labels)}; "
            "add others"
        )
    half = math.ceil(len(labels) / 2)
    kept = labels[:half] if subsample == "base" else labels[half:]
    new_label = {label: index for index, label in enumerate(kept)}
    halves = [
        [
            Datum(datum.impath, new_label[datum.label], datum.domain, datum.classname)
            for datum in split
            if datum.label in new_label
        ]
        for split in splits
    ]
    if any(split and not kept for split, kept in zip(splits, halves, strict=True)):
        raise ValueError(f"one of train, val, test has no image of the {subsample} classes")
    return halves


class FewShotDataset(CoOpNames, DatasetBase):
    """Reads cfg.DATASET.{ROOT, NUM_SHOTS, SUBSAMPLE_CLASSES, TEMPLATE} and cfg.SEED.

    The same seed and the same split give the same images, whatever was drawn before. The draw
    is made over all classes; base/new classes are picked from it. NUM_SHOTS below 1 takes all.
    """

    dataset_dir = ""  # under the data root
    images = "images"  # directory under dataset_dir that the paths of the split are relative to
    needed: tuple[str, ...] = ()  # what must be there under dataset_dir; default: images
    split_name = ""  # split file under dataset_dir; none: build_split() runs every time
    template = "a photo of a {}."
    subsample_classes = staticmethod(subsample_classes)  # as CoOp's loaders have it

    def __init__(self, cfg: Any, keep_split: bool = True) -> None:
        """`keep_split`: save a split that had to be made."""
        self.keep_split = keep_split
        options = cfg.DATASET
        subsample = getattr(options, "SUBSAMPLE_CLASSES", "all")
        check_subsample(subsample)
        self.template = _checked_template(getattr(options, "TEMPLATE", "") or self.template)
        self.place = self.check_present(cfg)
        self.dataset_dir = os.path.join(self.place.root, self.place.folder)
        self.image_dir = os.path.join(self.dataset_dir, self.images).rstrip("/")
        self.split_path = os.path.join(self.dataset_dir, self.split_name)

        split = self.load_split()
        train, val = self.draw(split, options.NUM_SHOTS, cfg.SEED)
        parts = [as_data(part, self.image_dir) for part in (train, val, split.test)]
        if options.NUM_SHOTS >= 1 and cfg.SEED >= 0 and _is_for_a_plugin(cfg):
            self.write_pickled_draw(options.NUM_SHOTS, cfg.SEED, *parts[:2])
        kept = subsample_classes(*parts, subsample=subsample)
        if train is not split.train:  # else all images are taken, whatever NUM_SHOTS says
            self.tell_short(kept[0], options.NUM_SHOTS)
        self.hand_over(*kept)

    def hand_over(self, train: list[Datum], val: list[Datum], test: list[Datum]) -> None:
        """Give the engine its three lists."""
        super().__init__(train_x=train, val=val or None, test=test)

    # Where it is

    @classmethod
    def check_present(cls, cfg: Any) -> Place:
        """Where it is; FileNotFoundError with the next step if it is not there. Takes no time."""
        place = cls.find_place(cfg)
        check_place(place, cls.needed or (cls.images,))
        return place

    @classmethod
    def find_place(cls, cfg: Any) -> Place:
        name, given = cls.__name__, cfg.DATASET.ROOT
        root = data_root(given, name)
        asked = f"--root {given} (DATA in the scripts)"
        return Place(name, root, cls.dataset_dir, asked, cls.how_to_get(given))

    @classmethod
    def how_to_get(cls, root_given: str) -> str:
        return download_command(cls.__module__.rpartition(".")[2], root_given)

    def annotation(self, name: str) -> str:
        """Path of a file that the split is made from; FileNotFoundError where it is missing."""
        path = os.path.join(self.dataset_dir, name)
        if not os.path.isfile(path):
            what = f"{name} is missing, which says what is in this dataset"
            if self.split_name:
                what = f"{self.split_name} is missing, and so is {name}, to make one from"
            raise missing(self.place, path, what)
        return path

    def annotation_rows(self, name: str, fields: int) -> list[list[str]]:
        """Lines of an annotation file cut into `fields` fields, the last taking what remains."""
        return [row for _, row in read_rows(self.annotation(name), fields)]

    # Split

    def load_split(self) -> Split:
        """The split file's split; where there is none, one made from the raw annotations."""
        if not self.split_name:
            return self.checked_build()
        if os.path.isfile(self.split_path):
            folder = f"{self.place.folder}/{self.images}".rstrip("/")
            return _splits.read_split_file(self.split_path, folder, self.another_split())
        split = self.checked_build()
        if self.keep_split:
            self.save(split)
        return split

    def another_split(self) -> str:
        """What follows once an unreadable split file is out of the way."""
        if self.split_name.startswith("split_zhou_"):
            return f"then get the published one again: {self.place.how_to_get}"
        return "and the next run makes another"

    def save(self, split: Split) -> None:
        """Save a split that was just made. In a read-only directory each run makes it, the same."""
        try:
            _splits.save_split_file(split, self.split_path)
            print(f"{self.place.name}: made a split, saved as {self.split_path}")
        except OSError as error:
            print(f"{self.place.name}: made a split, but could not save it ({error})")

    def checked_build(self) -> Split:
        try:
            split = self.build_split()
            _splits.check_split(split)
        except ValueError as error:
            raise ValueError(
                f"{self.place.name}: no split can be made from {self.dataset_dir}: {error}"
            ) from error
        return split

    def build_split(self) -> Split:
        """The split made from raw annotations, paths relative to `image_dir`, labels from 0."""
        raise missing(self.place, self.split_path, f"the split file {self.split_name} is missing")

    # Few-shot draw

    def draw(self, split: Split, shots: int, seed: int) -> Draw:
        """k shots of train, then min(k, 4) of val, per class. All of both where shots < 1.

        With a seed (>= 0) the draw has a generator of its own, so neither what was drawn before
        nor whether the draw was kept from another run changes anything; without one it uses
        Python's global generator and is not kept.
        """
        if shots < 1:
            return split.train, split.val
        if seed < 0:
            return self.sample(split, shots)
        pickled = self.pickle_path(shots, seed)
        if os.path.isfile(pickled) and not _coop.was_left(pickled):
            return self.read_pickled_draw(pickled, split)
        key = fingerprint(split.train, split.val)
        kept = load_draw(self.dataset_dir, shots, seed, key)
        if kept is not None:
            return kept
        with _seeded(seed):
            drawn = self.sample(split, shots)
        store_draw(self.dataset_dir, shots, seed, key, drawn)
        return drawn

    def tell_short(self, train: list[Datum], shots: int) -> None:
        short = short_of_shots(train, shots)
        if short:
            named = ", ".join(f"{name} {count}" for name, count in list(short.items())[:5])
            print(
                f"{self.place.name}: {len(short)} classes have fewer than {shots} training images: "
                f"{named}{', ..' if len(short) > 5 else ''}"
            )

    def sample(self, split: Split, shots: int) -> Draw:
        """The draw from Python's global generator, train first."""
        draw: Any = self.generate_fewshot_dataset  # takes whatever has a label
        train = draw(split.train, num_shots=shots)
        val = draw(split.val, num_shots=min(shots, MAX_VAL_SHOTS)) if split.val else []
        return train, val

    @property
    def split_fewshot_dir(self) -> str:
        """Where CoOp's datasets keep their few-shot draws; plugins ask for it."""
        return os.path.join(self.dataset_dir, CACHE_NAME)

    def pickle_path(self, shots: int, seed: int) -> str:
        return os.path.join(self.split_fewshot_dir, f"shot_{shots}-seed_{seed}.pkl")

    def write_pickled_draw(
        self, shots: int, seed: int, train: list[Datum], val: list[Datum]
    ) -> None:
        """Leave the draw as CoOp's datasets do, for plugins that read it."""
        path = self.pickle_path(shots, seed)
        if not os.path.isfile(path) or _coop.was_left(path):
            _coop.write_pickle(path, train=train, val=val)

    def read_pickled_draw(self, path: str, split: Split) -> Draw:
        """The draw that a run of the CoOp code base left in this dataset's directory."""
        print(f"{self.place.name}: few-shot draw of {path}")
        parts = _coop.read_pickle(path, ["train", "val"] if split.val else ["train"])
        train = _coop.match_items(path, parts["train"], split.train)
        _coop.check_classes(path, train, split.train)
        return train, _coop.match_items(path, parts["val"], split.val) if split.val else []


def short_of_shots(train: Iterable[Datum], shots: int) -> dict[str, int]:
    """Class name -> its images, of classes that have fewer than `shots`; in the labels' order."""
    counts = Counter((datum.label, datum.classname) for datum in train)
    return {name: count for (_, name), count in sorted(counts.items()) if count < shots}


def _is_for_a_plugin(cfg: Any) -> bool:
    """Whether a trainer runs that is none of ours, each of which has a node of settings."""
    name = getattr(getattr(cfg, "TRAINER", None), "NAME", "")
    known = name in TRAINER_REGISTRY.registered_names()
    return known and not hasattr(TRAINER_REGISTRY.get(name), "node")


def _checked_template(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(
            f"DATASET.TEMPLATE is {template!r}; it needs exactly one {{}}, where the class name "
            "goes, as in 'a photo of a {}.'"
        )
    return template


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's global generator in the state that random.seed(seed) gives; put back after."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
