"""The demo set: drawn shapes, made by `python -m tools.toy ROOT`."""

from __future__ import annotations

import shlex

from dassl.data.datasets import DATASET_REGISTRY

from .few_shot import FewShotDataset


@DATASET_REGISTRY.register()
class ColoredShapes(FewShotDataset):
    dataset_dir = "colored_shapes"
    split_name = "split_zhou_ColoredShapes.json"

    @classmethod
    def how_to_get(cls, root_given: str) -> str:
        return f"python -m tools.toy {shlex.quote(root_given)}"
