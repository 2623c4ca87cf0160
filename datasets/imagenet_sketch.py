"""ImageNet-Sketch (Wang et al. 2019): 50 black-and-white sketches for each ImageNet class."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from ._imagenet import TestOnlyFolders


@DATASET_REGISTRY.register()
class ImageNetSketch(TestOnlyFolders):
    dataset_dir = "imagenet-sketch"
