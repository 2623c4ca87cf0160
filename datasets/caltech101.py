"""Caltech101 (Fei-Fei et al. 2004): 100 classes; clutter and a second face class are left out."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset, Split, class_paths, split_classes

LEFT_OUT = ("BACKGROUND_Google", "Faces_easy")
RENAMED = {
    "airplanes": "airplane",
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
}


@DATASET_REGISTRY.register()
class Caltech101(FewShotDataset):
    dataset_dir = "caltech-101"
    images = "101_ObjectCategories"
    split_name = "split_zhou_Caltech101.json"

    def build_split(self) -> Split:
        return split_classes(class_paths(self.image_dir, LEFT_OUT), RENAMED)
