"""Food-101 (Bossard et al. 2014): 101 dishes, 1,000 photos each."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset, Split, class_paths, split_classes


@DATASET_REGISTRY.register()
class Food101(FewShotDataset):
    dataset_dir = "food-101"
    split_name = "split_zhou_Food101.json"
    template = "a photo of {}, a type of food."

    def build_split(self) -> Split:
        return split_classes(class_paths(self.image_dir))
