"""SUN397 (Xiao et al. 2010): 397 scenes. The first of the ten published train/test partitions."""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset, Item, Split, split_trainval


@DATASET_REGISTRY.register()
class SUN397(FewShotDataset):
    dataset_dir = "sun397"
    images = "SUN397"
    split_name = "split_zhou_SUN397.json"

    def build_split(self) -> Split:
        folders = [line.strip("/") for (line,) in self.annotation_rows("ClassName.txt", 1)]
        labels = {folder: label for label, folder in enumerate(folders)}
        train, val = split_trainval(self.read_list("Training_01.txt", labels))
        return Split(train, val, self.read_list("Testing_01.txt", labels))

    def read_list(self, name: str, labels: dict[str, int]) -> list[Item]:
        """Lines '/a/apse/indoor/sun_bjbr.jpg'."""
        items = []
        for (line,) in self.annotation_rows(name, 1):
            path = line.lstrip("/")
            folder = path.rpartition("/")[0]
            if folder not in labels:
                raise ValueError(f"{name} has the class {folder!r}, ClassName.txt has not")
            items.append(Item(path, labels[folder], scene_name(folder)))
        return items


def scene_name(folder: str) -> str:
    """'a/apse/indoor' -> 'indoor apse': the words after the letter, the last one first."""
    return " ".join(reversed(folder.split("/")[1:]))
