"""Your own images, DATASET.PATH: one folder per class, or train/, val/, test/ of such folders.

One level of class folders is split 50/20/30 per class, the same way every time, and written down
in split.json. `classnames.txt` in the folder (lines 'folder words', or with a tab between) gives
class folders other words than their names. DATASET.TEMPLATE is the template for the class names.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from common.advice import move_aside
from common.image_files import IMAGE_SUFFIXES, is_image
from common.text_files import plain_spaces
from dassl.data.datasets import DATASET_REGISTRY

from . import _splits
from ._files import (
    NO_CLASSES,
    class_folders,
    class_paths,
    composed,
    list_images,
    read_lines,
    words_of_folders,
)
from ._missing import Place, missing
from .few_shot import FewShotDataset, Item, Split, split_classes

CLASSNAMES = "classnames.txt"
NO_FILES = {"thumbs.db", "desktop.ini"}  # what Windows leaves beside images
PART_NAMES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}


@DATASET_REGISTRY.register()
class ImageFolder(FewShotDataset):
    images = ""
    split_name = "split.json"
    exif_orientation = "apply"  # what INPUT.EXIF_ORIENTATION auto means: cameras wrote these images

    @classmethod
    def find_place(cls, cfg: Any) -> Place:
        """DATASET.PATH is absolute, or relative to the current directory, or else to --root."""
        given = getattr(cfg.DATASET, "PATH", "")
        if not given:
            raise ValueError(
                "ImageFolder: DATASET.PATH is empty. Give the directory with your images, "
                "as in DATASET.PATH my_images (docs/DATASETS.md)"
            )
        path = os.path.abspath(os.path.expanduser(given))
        in_root = os.path.abspath(os.path.join(os.path.expanduser(cfg.DATASET.ROOT), given))
        if not os.path.isdir(path) and os.path.isdir(in_root):
            path = in_root
        place = Place(
            name="ImageFolder",
            root=os.path.dirname(path),
            folder=os.path.basename(path),
            asked=f"DATASET.PATH {given}, in the current directory or in --root",
            how_to_get="set DATASET.PATH to a directory with one folder of images per class",
        )
        if not os.path.isdir(path):
            raise missing(place, path, "there is no such folder")
        return place

    # ------------------------------------------------------------ split

    def load_split(self) -> Split:
        """Class names are folder names in split.json: classnames.txt may change later."""
        if self.parts():
            return self.rename(self.checked_build())
        is_old = os.path.isfile(self.split_path)
        split = super().load_split()
        if is_old:
            self.compare_with_folder(split)
        return self.rename(split)

    def parts(self) -> dict[str, str]:
        """train, val, test -> the folder that it is in; empty where the folders are classes.

        ValueError for two folders that mean the same part, and for others beside them.
        """
        names = class_folders(self.image_dir)
        meant = [PART_NAMES.get(name.lower(), "") for name in names]
        others = [f"{name}/" for name in names if name.lower() not in PART_NAMES]
        if "train" not in meant or (others and "test" not in meant):
            return {}
        plain = set(names) <= set(_splits.PARTS)
        if not plain and any(list_images(os.path.join(self.image_dir, name)) for name in names):
            return {}  # with images in them they are classes that happen to be called so
        if others:
            raise ValueError(
                f"{self.image_dir} has folders for training and test, and beside them "
                f"{', '.join(others[:5])}: take these out"
            )
        twice = next((part for part in meant if meant.count(part) > 1), None)
        if twice:
            both = [f"{name}/" for name, part in zip(names, meant, strict=True) if part == twice]
            raise ValueError(
                f"{self.image_dir} has {' and '.join(both)}, which both mean {twice}/: rename or "
                "move one"
            )
        return dict(zip(meant, names, strict=True))

    def build_split(self) -> Split:
        parts = self.parts()
        if not parts:
            return split_classes(self.images_of_classes(self.image_dir))
        if "test" not in parts:
            raise ValueError("there is train/ but no test/; add it, or put the classes in PATH")
        by_part = {
            part: self.images_of_classes(os.path.join(self.image_dir, name))
            for part, name in parts.items()
        }
        labels = {folder: label for label, folder in enumerate(by_part["train"])}
        return Split(
            *(
                part_items(parts.get(part, ""), by_part.get(part, {}), labels)
                for part in _splits.PARTS
            )
        )

    def images_of_classes(self, folder: str) -> dict[str, list[str]]:
        """Class folder -> paths relative to `folder`; ValueError for none, or for an empty one.

        Says what else is there.
        """
        by_class = class_paths(folder)
        if not by_class:
            loose = len(list_images(folder))
            what = f"{loose} images directly" if loose else "nothing that could be one"
            raise ValueError(
                f"{folder} holds no class folders, but {what}: put the images of each class into "
                "a folder of its own"
            )
        empty = next((name for name, paths in by_class.items() if not paths), None)
        if empty:
            raise ValueError(why_empty(folder, empty))
        for note in left_out(folder, by_class):
            print(f"ImageFolder: {folder}: {note}")
        return by_class

    def compare_with_folder(self, split: Split) -> None:
        """ValueError where split.json lists an image that is gone; new ones are only told."""
        listed = {item.path for part in split for item in part}
        by_class = self.images_of_classes(self.image_dir)
        present = {path for paths in by_class.values() for path in paths}
        again = f"move it aside ({move_aside(self.split_path)}) to split the folder anew"
        if listed - present:
            raise ValueError(
                f"{len(listed - present)} images of {self.split_path} are gone, first "
                f"{min(listed - present)}: put them back, or {again}"
            )
        if present - listed:
            print(
                f"ImageFolder: {len(present - listed)} images are not in {self.split_path}; {again}"
            )

    # ------------------------------------------------------------ class names

    def rename(self, split: Split) -> Split:
        words = self.read_words({item.classname for item in split.train})
        return Split(
            *(
                [
                    item._replace(classname=words.get(item.classname, item.classname))
                    for item in part
                ]
                for part in split
            )
        )

    def read_words(self, folders: Collection[str]) -> dict[str, str]:
        """classnames.txt; ValueError for a line whose folder is not there, or was named before."""
        path = os.path.join(self.dataset_dir, CLASSNAMES)
        if not os.path.isfile(path):
            return {}
        known = {composed(plain_spaces(folder)): folder for folder in sorted(folders)}
        rows = []
        for number, line in enumerate(map(plain_spaces, read_lines(path)), 1):
            written, _, words = line.partition("\t" if "\t" in line else " ")
            folder = known.get(composed(written.strip()))
            if not line:
                continue
            if folder is None or not words.strip():
                raise ValueError(f"{path}, line {number}: {self.expected(line, folders)}")
            rows.append((number, [folder, words.strip()]))
        return words_of_folders(path, rows)

    def expected(self, line: str, folders: Collection[str]) -> str:
        """What a line of classnames.txt should be, and which folder may be meant."""
        near = difflib.get_close_matches(re.split("[\t ]", line)[0], sorted(folders), n=1)
        return (
            f"expected '<class folder> <words>' with a class folder of {self.dataset_dir} (and a "
            f"tab between, where folder names have spaces), got {line!r:.100}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )


def part_items(folder: str, by_class: dict[str, list[str]], labels: dict[str, int]) -> list[Item]:
    unknown = sorted(set(by_class) - set(labels))
    if unknown:
        raise ValueError(f"{folder}/ has the class folder {unknown[0]!r}, train/ has not")
    return [
        Item(f"{folder}/{path}", labels[name], name)
        for name, paths in by_class.items()
        for path in paths
    ]


# What is not read, in words: nobody should wonder where images went


def left_out(folder: str, classes: Collection[str]) -> list[str]:
    """Notes on what is in a directory of class folders and is no image of a class."""
    beside = [beside_images(folder, name) for name in classes]
    kinds = sum((files for files, _ in beside), Counter())
    nested = sum((images for _, images in beside), Counter())
    made = [name for name in sorted(NO_CLASSES) if images_below(os.path.join(folder, name))]
    notes = [f"{', '.join(made)}: left out, not a class"] if made else []
    if nested:
        notes.append(f"not read, since they are in folders of class folders: {_shown(nested)}")
    if kinds:
        notes.append(f"not read: {_shown(kinds)} (read are {' '.join(IMAGE_SUFFIXES)})")
    return notes


def why_empty(folder: str, name: str) -> str:
    """Why the class folder `name` of `folder` has no image, and what to do."""
    path = os.path.join(folder, name)
    files, nested = beside_images(folder, name)
    if nested:
        return (
            f"{path} holds no images itself, and class folders must: move them up, or make these "
            f"the class folders ({_shown(nested)})"
        )
    what = f"it has {_shown(files)}: convert them to one of" if files else "put some in:"
    return f"{path} holds no images; {what} {' '.join(IMAGE_SUFFIXES)}"


def beside_images(folder: str, name: str) -> tuple[Counter[str], Counter[str]]:
    """What a class folder has beside its images, hidden files and what systems make.

    Suffix -> number of files that are no images, and folder in it -> number of images below.
    """
    with os.scandir(os.path.join(folder, name)) as entries:
        others = [entry for entry in entries if entry.name[0] != "." and not is_image(entry.name)]
    files = [e.name for e in others if e.is_file() and e.name.lower() not in NO_FILES]
    kinds = Counter(os.path.splitext(file)[1].lower() or "without suffix" for file in files)
    nested = {
        f"{name}/{entry.name}/": images_below(entry.path)
        for entry in sorted(others, key=lambda entry: entry.name)
        if entry.is_dir() and entry.name not in NO_CLASSES
    }
    return kinds, +Counter(nested)


def images_below(folder: str) -> int:
    return sum(is_image(file) for _, _, files in os.walk(folder) for file in files)


def _shown(counts: Counter[str]) -> str:
    """The four most. Names need not be UTF-8 here."""
    shown = ", ".join(f"{count} {what}" for what, count in counts.most_common(4))
    return shown.encode(errors="backslashreplace").decode() + (", .." if len(counts) > 4 else "")
