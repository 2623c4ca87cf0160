"""Your own pictures, DATASET.PATH: one folder per class, or train/, val/, test/ of such folders.

One level of class folders is split 50/20/30 per class, the same way every time, and written down
in split.json. `classnames.txt` in the folder (lines 'folder words', or with a tab between) gives
class folders other words than their names. DATASET.TEMPLATE is the sentence for the class names.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY

from . import _splits
from ._annotations import read_lines
from ._cache import IMAGE_SUFFIXES, class_folders
from ._missing import Place, missing
from .few_shot import FewShotDataset, Item, Split, class_paths, split_classes

CLASSNAMES = "classnames.txt"


@DATASET_REGISTRY.register()
class ImageFolder(FewShotDataset):
    images = ""
    split_name = "split.json"
    exif_orientation = "apply"  # what INPUT.EXIF_ORIENTATION auto means: cameras wrote these images

    @classmethod
    def find_place(cls, cfg: Any) -> Place:
        """DATASET.PATH is absolute, or relative to the current folder, or else to --root."""
        given = getattr(cfg.DATASET, "PATH", "")
        if not given:
            raise ValueError(
                "ImageFolder: DATASET.PATH is empty. Give the folder with your pictures, "
                "as in DATASET.PATH my_pictures (docs/DATASETS.md)"
            )
        path = os.path.abspath(os.path.expanduser(given))
        in_root = os.path.abspath(os.path.join(os.path.expanduser(cfg.DATASET.ROOT), given))
        if not os.path.isdir(path) and os.path.isdir(in_root):
            path = in_root
        place = Place(
            name="ImageFolder",
            root=os.path.dirname(path),
            folder=os.path.basename(path),
            asked=f"DATASET.PATH {given}, in the current folder or in --root",
            how_to_get="set DATASET.PATH to a folder that holds one folder of pictures per class",
        )
        if not os.path.isdir(path):
            raise missing(place, path, "there is no such folder")
        return place

    # ------------------------------------------------------------ split

    def load_split(self) -> Split:
        """Class names are folder names in split.json: classnames.txt may change later."""
        if self.is_divided():
            return self.rename(self.checked_build())
        split = super().load_split()
        self.compare_with_folder(split)
        return self.rename(split)

    def is_divided(self) -> bool:
        """Whether the folder has train/ and no other class folders than train/, val/, test/."""
        folders = set(class_folders(self.image_dir))
        return "train" in folders and folders <= set(_splits.PARTS)

    def build_split(self) -> Split:
        if not self.is_divided():
            return split_classes(pictures(self.image_dir))
        by_part = {
            part: pictures(os.path.join(self.image_dir, part))
            for part in class_folders(self.image_dir)
        }
        if "test" not in by_part:
            raise ValueError("there is train/ but no test/; add it, or put the classes in PATH")
        labels = {folder: label for label, folder in enumerate(by_part["train"])}
        return Split(*(part_items(part, by_part.get(part, {}), labels) for part in _splits.PARTS))

    def compare_with_folder(self, split: Split) -> None:
        """ValueError where split.json lists a picture that is gone; new ones are only told."""
        listed = {item.path for part in split for item in part}
        present = {path for paths in pictures(self.image_dir).values() for path in paths}
        again = f"delete {self.split_path} to split the folder anew"
        if listed - present:
            raise ValueError(
                f"{len(listed - present)} pictures of {self.split_path} are gone, first "
                f"{min(listed - present)}: put them back, or {again}"
            )
        if present - listed:
            print(f"ImageFolder: {len(present - listed)} pictures are not in its split; {again}")

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
        """classnames.txt; ValueError for a line whose folder is not there."""
        path = os.path.join(self.dataset_dir, CLASSNAMES)
        if not os.path.isfile(path):
            return {}
        lines = [line for line in read_lines(path) if line]
        words = {}
        for line in lines:
            folder, _, name = line.partition("\t" if "\t" in line else " ")
            if folder not in folders or not name.strip():
                near = difflib.get_close_matches(folder, sorted(folders), n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"{path}: expected '<class folder> <words>' with a class folder of "
                    f"{self.dataset_dir}, got {line!r}{hint}"
                )
            words[folder] = name.strip()
        return words


def pictures(folder: str) -> dict[str, list[str]]:
    """Class folder -> paths relative to `folder`; ValueError for none, or for an empty one."""
    by_class = class_paths(folder)
    if not by_class:
        raise ValueError(f"{folder} holds no class folders")
    empty = next((name for name, paths in by_class.items() if not paths), None)
    if empty:
        raise ValueError(
            f"{os.path.join(folder, empty)} holds no pictures ({' '.join(IMAGE_SUFFIXES)})"
        )
    return by_class


def part_items(part: str, by_class: dict[str, list[str]], labels: dict[str, int]) -> list[Item]:
    unknown = sorted(set(by_class) - set(labels))
    if unknown:
        raise ValueError(f"{part}/ has the class folder {unknown[0]!r}, train/ has not")
    return [
        Item(f"{part}/{path}", labels[folder], folder)
        for folder, paths in by_class.items()
        for path in paths
    ]
