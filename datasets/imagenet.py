"""ImageNet-1k (ILSVRC 2012), images/{train,val}/nXXXXXXXX/ and classnames.txt.

Its published validation images are the test set; there is no other validation set.
"""

from __future__ import annotations

import os

from common.advice import move_aside
from dassl.data.datasets import DATASET_REGISTRY, Datum

from ._coop import PickledImage, read_pickle
from ._imagenet import ClassFolders, label_folders
from ._splits import Item, Split, check_split


@DATASET_REGISTRY.register()
class ImageNet(ClassFolders):
    dataset_dir = "imagenet"
    needed = ("images/train", "images/val")

    def build_split(self) -> Split:
        preprocessed = os.path.join(self.dataset_dir, "preprocessed.pkl")
        if os.path.isfile(preprocessed):
            return read_preprocessed(preprocessed, self.image_dir)
        listing = self.listing("images/train")
        names = self.names_of(listing)
        train = label_folders(listing, names, "train/")
        return Split(train, [], label_folders(self.listing("images/val"), names, "val/"))

    def hand_over(self, train: list[Datum], val: list[Datum], test: list[Datum]) -> None:
        super().hand_over(train, test, test)


def read_preprocessed(path: str, image_dir: str) -> Split:
    """The listing that a run of the CoOp code base left in the folder.

    ValueError, naming it, for one that is no split or lists images that are gone. One image of
    each class folder is looked for: looking for a million takes minutes.
    """
    parts = read_pickle(path, ("train", "test"))
    train = [relative_item(path, image, "train") for image in parts["train"]]
    split = Split(train, [], [relative_item(path, image, "val") for image in parts["test"]])
    try:
        check_split(split)
    except ValueError as error:
        raise ValueError(f"{path} is not a usable listing: {error}; {again(path)}") from error
    samples = {item.path.rpartition("/")[0]: item.path for part in split for item in part}
    gone = [name for name in samples.values() if not os.path.isfile(f"{image_dir}/{name}")]
    if gone:
        raise ValueError(
            f"{path} lists images that are not there, as {image_dir}/{gone[0]}; put them back, or "
            f"{again(path)}"
        )
    return split


def again(path: str) -> str:
    return f"move it aside ({move_aside(path)}), and the folders are listed again"


def relative_item(path: str, image: PickledImage, part: str) -> Item:
    """The image under images/, wherever that was: its path ends with 'train|val/class/file'."""
    tail = image.path.rsplit("/", 3)[1:]
    if tail[:1] != [part] or len(tail) != 3 or ".." in tail:
        raise ValueError(
            f"{path} has the path {image.path}, which does not end with {part}/<class>/<file>; "
            f"{again(path)}"
        )
    return Item("/".join(tail), image.label, image.classname)
