"""ImageNet-R (Hendrycks et al. 2021): renditions (art, cartoons, toys, ..), 200 classes."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from ._imagenet import TestOnlyFolders


@DATASET_REGISTRY.register()
class ImageNetR(TestOnlyFolders):
    dataset_dir = "imagenet-rendition"
    images = "imagenet-r"
