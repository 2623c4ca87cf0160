"""UCF101 (Soomro et al. 2012): 101 human actions, the middle frame of each video."""

from __future__ import annotations

import re

from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset, Item, Split, split_trainval


@DATASET_REGISTRY.register()
class UCF101(FewShotDataset):
    dataset_dir = "ucf101"
    images = "UCF-101-midframes"
    split_name = "split_zhou_UCF101.json"
    template = "a photo of a person doing {}."

    def build_split(self) -> Split:
        rows = self.annotation_rows("ucfTrainTestlist/classInd.txt", 2)  # '1 ApplyEyeMakeup'
        labels = {action: int(number) - 1 for number, action in rows}
        train, val = split_trainval(self.read_list("ucfTrainTestlist/trainlist01.txt", labels))
        return Split(train, val, self.read_list("ucfTrainTestlist/testlist01.txt", labels))

    def read_list(self, name: str, labels: dict[str, int]) -> list[Item]:
        """Lines 'YoYo/v_YoYo_g01_c01.avi', in the training list followed by the class number."""
        items = []
        for (line,) in self.annotation_rows(name, 1):
            action, _, video = line.split()[0].partition("/")
            if action not in labels:
                raise ValueError(f"{name} has the action {action!r}, classInd.txt has not")
            words = action_words(action)
            image = video.removesuffix(".avi") + ".jpg"
            items.append(Item(f"{words}/{image}", labels[action], words))
        return items


def action_words(action: str) -> str:
    """'ApplyEyeMakeup' -> 'Apply_Eye_Makeup'."""
    return "_".join(re.findall("[A-Z][^A-Z]*", action))
