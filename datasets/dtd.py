"""Describable Textures (Cimpoi et al. 2014): 47 textures, named by an adjective."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset, Split, class_paths, split_classes


@DATASET_REGISTRY.register()
class DescribableTextures(FewShotDataset):
    dataset_dir = "dtd"
    split_name = "split_zhou_DescribableTextures.json"
    template = "{} texture."

    def build_split(self) -> Split:
        return split_classes(class_paths(self.image_dir))
