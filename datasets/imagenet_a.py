"""ImageNet-A (Hendrycks et al. 2021): natural images that fool ResNet-50, 200 classes."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from ._imagenet import TestOnlyFolders


@DATASET_REGISTRY.register()
class ImageNetA(TestOnlyFolders):
    dataset_dir = "imagenet-adversarial"
    images = "imagenet-a"
