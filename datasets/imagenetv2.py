"""ImageNetV2, matched frequency (Recht et al. 2019): a second test set, 10 images per class.
Its folders are numbers: positions among ImageNet's sorted folders, so 10 is not the third class."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from ._imagenet import TestOnlyFolders, label_folders
from ._splits import Split


@DATASET_REGISTRY.register()
class ImageNetV2(TestOnlyFolders):
    dataset_dir = "imagenetv2"
    images = "imagenetv2-matched-frequency-format-val"

    def build_split(self) -> Split:
        names = {str(n): name for n, (_, name) in enumerate(sorted(self.read_classnames().items()))}
        items = label_folders(self.listing(self.images), names)
        return Split(items, [], items)
