"""What ImageNet and its variants share: classnames.txt, class folders, sets only tested on."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from ._cache import Draw, list_class_folders_once
from ._files import read_rows, words_of_folders
from ._missing import missing
from ._splits import Item, Split
from .few_shot import FewShotDataset

CLASSNAMES = "classnames.txt"  # lines 'nXXXXXXXX name words', in any order


class ClassFolders(FewShotDataset):
    """Images in folders that classnames.txt names. The listing is kept for the next run."""

    def read_classnames(self) -> dict[str, str]:
        """Folder -> class name, in file order."""
        path = self.classnames_file()
        return words_of_folders(path, read_rows(path, 2))

    def classnames_file(self) -> str:
        """Its own file, or that of ImageNet, which serves its variants too."""
        own = os.path.join(self.dataset_dir, CLASSNAMES)
        shared = os.path.join(self.place.root, "imagenet", CLASSNAMES)
        path = next((path for path in (own, shared) if os.path.isfile(path)), None)
        if path is None:
            raise missing(self.place, own, f"{CLASSNAMES} is missing, which names the classes")
        return path

    def listing(self, folder: str) -> dict[str, list[str]]:
        """Class folder -> file names, for a folder under dataset_dir."""
        listing = list_class_folders_once(self.dataset_dir, folder)
        if not listing:
            raise ValueError(
                f"{folder}/ has no class folders; images lying in it directly must be sorted into "
                "one folder per class first (docs/DATASETS.md)"
            )
        return listing

    def names_of(self, folders: Collection[str]) -> dict[str, str]:
        """Class names of sorted folders, which get the labels 0, 1, .."""
        names = self.read_classnames()
        unknown = sorted(set(folders) - set(names))
        if unknown:
            raise ValueError(
                f"{self.classnames_file()} has no line for the class folder {unknown[0]!r}; add "
                "one, or get the file again"
            )
        return {folder: names[folder] for folder in sorted(folders)}


def label_folders(
    listing: Mapping[str, Collection[str]], names: Mapping[str, str], prefix: str = ""
) -> list[Item]:
    """Items of the folders in `names`, whose order gives the labels. Both must agree."""
    differing = sorted(set(listing) ^ set(names))
    if differing:
        state = "unexpected" if differing[0] in listing else "missing"
        raise ValueError(
            f"the class folder {prefix}{differing[0]} is {state}; expected {len(names)} folders, "
            f"found {len(listing)}. Is everything unpacked?"
        )
    return [
        Item(f"{prefix}{folder}/{file}", label, name)
        for label, (folder, name) in enumerate(names.items())
        for file in listing[folder]
    ]


class TestOnlyFolders(ClassFolders):
    """A variant of ImageNet without training images.

    The engine takes the class names from the training list: it is the test list.
    """

    def build_split(self) -> Split:
        listing = self.listing(self.images)
        items = label_folders(listing, self.names_of(listing))
        return Split(items, [], items)

    def draw(self, split: Split, shots: int, seed: int) -> Draw:
        return split.train, []
