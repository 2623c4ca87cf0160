"""Reading the golden files: the small CLIP they were made with, and one method's numbers."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozen_clip import FrozenCLIP
from frozen_clip.weights import build

FOLDER = Path(__file__).parent / "golden"


@cache
def clip() -> FrozenCLIP:
    with np.load(FOLDER / "clip_tiny.npz") as arrays:
        state = {
            name.removeprefix("clip/"): torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith("clip/")
        }
        vocab_size = int(arrays["meta/vocab_size"])
    ids, rows = state.pop("token_embedding.ids"), state.pop("token_embedding.rows")
    table = torch.zeros(vocab_size, rows.shape[1])
    state["token_embedding.weight"] = table.index_copy(0, ids.long(), rows)
    return FrozenCLIP(build(state), "golden")


class Golden:
    """`golden["out/logits"]` is a tensor; `golden.group("param")` a dict of them."""

    def __init__(self, file: str):
        with np.load(FOLDER / file) as arrays:
            self.meta = json.loads(str(arrays["meta/json"]))
            names = (n for n in arrays.files if n != "meta/json")
            self.tensors = {name: torch.from_numpy(np.asarray(arrays[name])) for name in names}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def group(self, prefix: str) -> dict[str, Tensor]:
        start = f"{prefix}/"
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}
