"""EuroSAT (Helber et al. 2019), RGB: 10 kinds of land use seen from a satellite."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset, Split, class_paths, split_classes

NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}


@DATASET_REGISTRY.register()
class EuroSAT(FewShotDataset):
    dataset_dir = "eurosat"
    images = "2750"
    split_name = "split_zhou_EuroSAT.json"
    template = "a centered satellite photo of {}."

    def build_split(self) -> Split:
        return split_classes(class_paths(self.image_dir), NAMES)
