"""Oxford-IIIT Pets (Parkhi et al. 2012): 37 breeds of cats and dogs."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset, Item, Split, split_trainval


@DATASET_REGISTRY.register()
class OxfordPets(FewShotDataset):
    dataset_dir = "oxford_pets"
    split_name = "split_zhou_OxfordPets.json"
    template = "a photo of a {}, a type of pet."

    def build_split(self) -> Split:
        train, val = split_trainval(self.read_list("annotations/trainval.txt"))
        return Split(train, val, self.read_list("annotations/test.txt"))

    def read_list(self, name: str) -> list[Item]:
        """Lines 'Great_Pyrenees_12 15 2 8': image, class from 1, species, breed in species."""
        return [
            Item(f"{image}.jpg", int(label) - 1, image.rpartition("_")[0].lower())
            for image, label, _ in self.annotation_rows(name, 3)
        ]
