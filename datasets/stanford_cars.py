"""Stanford Cars (Krause et al. 2013): 196 models of cars, by make, model and year."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from ._files import read_mat
from .few_shot import FewShotDataset, Item, Split, split_trainval


@DATASET_REGISTRY.register()
class StanfordCars(FewShotDataset):
    dataset_dir = "stanford_cars"
    images = ""  # split paths begin with cars_train/ or cars_test/
    needed = ("cars_train", "cars_test")
    split_name = "split_zhou_StanfordCars.json"

    def build_split(self) -> Split:
        train, val = split_trainval(self.read_cars("cars_train", "devkit/cars_train_annos.mat"))
        test = self.read_cars("cars_test", "cars_test_annos_withlabels.mat")
        return Split(train, val, test)

    def read_cars(self, folder: str, annotations: str) -> list[Item]:
        """A devkit file's struct array with the fields 'fname' and 'class' (from 1)."""
        names = [
            year_first(str(name))
            for name in read_mat(self.annotation("devkit/cars_meta.mat"), "class_names")
        ]
        cars = read_mat(self.annotation(annotations), "annotations")
        labels = [int(label) - 1 for label in cars["class"]]
        return [
            Item(f"{folder}/{file}", label, names[label])
            for file, label in zip(cars["fname"], labels, strict=True)
        ]


def year_first(name: str) -> str:
    """'Audi TT RS Coupe 2012' -> '2012 Audi TT RS Coupe'."""
    model, _, year = name.rpartition(" ")
    return f"{year} {model}"
