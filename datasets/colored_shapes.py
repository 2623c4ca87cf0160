"""The demo dataset: drawn shapes, made by `python -m tools.toy ROOT`."""

from __future__ import annotations

import shlex

from common.advice import move_aside
from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset


@DATASET_REGISTRY.register()
class ColoredShapes(FewShotDataset):
    dataset_dir = "colored_shapes"
    split_name = "split_zhou_ColoredShapes.json"

    @classmethod
    def how_to_get(cls, root_given: str) -> str:
        return f"python -m tools.toy {shlex.quote(root_given)}"

    def another_split(self) -> str:
        """It is drawn with its images, and not where they are there already."""
        return f"then draw the set again: {move_aside(self.dataset_dir)} && {self.place.how_to_get}"
