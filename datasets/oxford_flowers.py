"""Oxford Flowers (Nilsback and Zisserman 2008): 102 flowers of the United Kingdom."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from ._files import read_mat, read_names
from .few_shot import FewShotDataset, Split, split_classes


@DATASET_REGISTRY.register()
class OxfordFlowers(FewShotDataset):
    dataset_dir = "oxford_flowers"
    images = "jpg"
    split_name = "split_zhou_OxfordFlowers.json"
    template = "a photo of a {}, a type of flower."

    def build_split(self) -> Split:
        """imagelabels.mat: class of image_00001.jpg, .. in turn, from 1; names by class."""
        names = read_names(self.annotation("cat_to_name.json"))
        images: dict[int, list[str]] = {}
        labels = read_mat(self.annotation("imagelabels.mat"), "labels")
        for number, label in enumerate(labels, 1):
            images.setdefault(int(label), []).append(f"image_{number:05d}.jpg")
        return split_classes({str(label): images[label] for label in sorted(images)}, names)
