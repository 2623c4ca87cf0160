"""ImageNet-1k (ILSVRC 2012), images/{train,val}/nXXXXXXXX/ and classnames.txt.

Its published validation images are the test set; there is no other validation set.
"""

from __future__ import annotations

import os

from dassl.data.datasets import DATASET_REGISTRY, Datum

from ._imagenet import ClassFolders, label_folders
from ._pickles import PickledImage, read_pickle
from ._splits import Item, Split


@DATASET_REGISTRY.register()
class ImageNet(ClassFolders):
    dataset_dir = "imagenet"
    needed = ("images/train", "images/val")

    def build_split(self) -> Split:
        preprocessed = os.path.join(self.dataset_dir, "preprocessed.pkl")
        if os.path.isfile(preprocessed):
            return read_preprocessed(preprocessed)
        listing = self.listing("images/train")
        names = self.names_of(listing)
        train = label_folders(listing, names, "train/")
        return Split(train, [], label_folders(self.listing("images/val"), names, "val/"))

    def hand_over(self, train: list[Datum], val: list[Datum], test: list[Datum]) -> None:
        super().hand_over(train, test, test)


def read_preprocessed(path: str) -> Split:
    """The listing that a run of the CoOp code base left in the folder."""
    parts = read_pickle(path, ("train", "test"))
    train = [relative_item(path, image, "train") for image in parts["train"]]
    return Split(train, [], [relative_item(path, image, "val") for image in parts["test"]])


def relative_item(path: str, image: PickledImage, part: str) -> Item:
    """The image under images/, wherever that was: its path ends with 'train|val/class/file'."""
    tail = image.path.rsplit("/", 3)[1:]
    if tail[:1] != [part] or len(tail) != 3 or ".." in tail:
        raise ValueError(
            f"{path} has the path {image.path}, which does not end with {part}/<class>/<file>; "
            "delete it, and the folders are listed again"
        )
    return Item("/".join(tail), image.label, image.classname)
