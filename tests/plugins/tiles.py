"""A data set in CoOp's manner: a folder for each class, a split file, pickled few-shot draws."""

import os
import pickle

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.data.datasets.base_dataset import DatasetBase as _SameBase
from dassl.data.datasets.base_dataset import Datum as _SameDatum
from dassl.utils import (
    check_isfile,
    download_url,
    get_most_similar_str_to_a_from_b,
    listdir_nohidden,
    mkdir_if_missing,
    read_image,
    read_json,
    tolist_if_not,
    write_json,
)

from .oxford_pets import OxfordPets

NAMES_URL = "https://example.invalid/tiles/names.json"


@DATASET_REGISTRY.register()
class Tiles(DatasetBase):
    dataset_dir = "tiles"

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        self.image_dir = os.path.join(self.dataset_dir, "images")
        self.split_path = os.path.join(self.dataset_dir, "split_Tiles.json")
        self.split_fewshot_dir = os.path.join(self.dataset_dir, "split_fewshot")
        mkdir_if_missing(self.split_fewshot_dir)

        if os.path.exists(self.split_path):
            train, val, test = OxfordPets.read_split(self.split_path, self.image_dir)
        else:
            trainval, test = self.read_data()
            train, val = OxfordPets.split_trainval(trainval)
            OxfordPets.save_split(train, val, test, self.split_path, self.image_dir)

        num_shots = cfg.DATASET.NUM_SHOTS
        if num_shots >= 1:
            preprocessed = os.path.join(
                self.split_fewshot_dir, f"shot_{num_shots}-seed_{cfg.SEED}.pkl"
            )
            if os.path.exists(preprocessed):
                print(f"Loading few-shot data from {preprocessed}")
                with open(preprocessed, "rb") as file:
                    data = pickle.load(file)
                train, val = data["train"], data["val"]
            else:
                train = self.generate_fewshot_dataset(train, num_shots=num_shots)
                val = self.generate_fewshot_dataset(val, num_shots=min(num_shots, 4))
                data = {"train": train, "val": val}
                with open(preprocessed, "wb") as file:
                    pickle.dump(data, file, protocol=pickle.HIGHEST_PROTOCOL)

        subsample = getattr(cfg.DATASET, "SUBSAMPLE_CLASSES", "all")
        parts = OxfordPets.subsample_classes(train, val, test, subsample=subsample)
        train, val, test = parts
        super().__init__(train_x=train, val=val, test=test)

    def read_data(self):
        """The last picture of each folder is for testing, the others for training."""
        names_path = os.path.join(self.dataset_dir, "names.json")
        if not check_isfile(names_path):
            download_url(NAMES_URL, names_path)
        names = read_json(names_path)
        trainval, test = [], []
        for label, folder in enumerate(listdir_nohidden(self.image_dir, sort=True)):
            key = get_most_similar_str_to_a_from_b(folder, list(names))
            paths = [
                os.path.join(self.image_dir, folder, name)
                for name in listdir_nohidden(os.path.join(self.image_dir, folder), sort=True)
            ]
            items = [Datum(impath=p, label=label, classname=names[key]) for p in paths]
            trainval.extend(items[:-1])
            test.extend(tolist_if_not(items[-1]))
        sizes = sorted({read_image(datum.impath).size for datum in test})
        write_json(sizes, os.path.join(self.dataset_dir, "sizes.json"))
        return trainval, test


assert issubclass(Tiles, _SameBase) and Datum is _SameDatum


def classnames(cfg):
    """Of whichever data set a config names."""
    return build_dataset(cfg).classnames
