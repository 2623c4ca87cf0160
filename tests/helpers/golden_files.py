"""The golden files: the small CLIP they were made with, a method's numbers, comparing with them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP
from frozen_clip.weights.state_dict import build
from run.config import default_config
from training.method import Method
from training.published import State, published
from training.settings import MethodSettings

FOLDER = Path(__file__).parents[1] / "golden"
NAMES = {
    "CLIP-LoRA": "CLIPLoRA",
    "2SFS (twostage)": "TwoStage",
    "Tip-Adapter, Tip-Adapter-F": "TipAdapterF",
    "LP++ (LinearProbe_P2)": "LPPlusPlus",
}
BATTERY = ("mmrl", "baselines")  # files that all tests of test_golden.py fit
LOGITS, REST = 1e-4, 1e-5  # tolerances


def clip_state() -> dict[str, Tensor]:
    """The tensors of the golden CLIP, by OpenAI's names."""
    with np.load(FOLDER / "clip_tiny.npz") as arrays:
        state = {
            name.removeprefix("clip/"): torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith("clip/")
        }
        vocab_size = int(arrays["meta/vocab_size"])
    ids, rows = state.pop("token_embedding.ids"), state.pop("token_embedding.rows")
    table = torch.zeros(vocab_size, rows.shape[1])
    return {**state, "token_embedding.weight": table.index_copy(0, ids.long(), rows)}


@cache
def clip() -> FrozenCLIP:
    return FrozenCLIP(build(clip_state()), "golden")


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

    @property
    def trainer(self) -> Any:
        """The class of the trainer that the file says, by its registered or its published name."""
        default_config()  # registers the trainers
        name = self.meta["trainer"]
        return TRAINER_REGISTRY.get(NAMES.get(name, name))

    @property
    def options(self) -> dict[str, Any]:
        """The values of the method's keys."""
        given = self.meta.get("options") or {k.upper(): v for k, v in self.meta.items()}
        names = [each.name for each in self.trainer.Method.Settings.config_keys()]
        return {name: given[name] for name in names if name in given}

    def settings(self) -> MethodSettings:
        node = self.trainer.Method.Settings.config_node()
        node.update(self.options, PREC="fp32")
        source = {"NAME": self.meta.get("dataset", ""), "TEMPLATE": ""}
        cfg = CfgNode({"TRAINER": {"X": node}, "DATASET": source})
        return self.trainer.Method.Settings.of(cfg, "X")

    def method(self) -> Method:
        """The method of the file, as the published code left its parameters."""
        names, template = self.meta["classnames"], self.meta.get("template", "{}")
        method = self.trainer.Method(self.settings(), clip(), names, template)
        method.learner.load_state_dict(self.ours("param"))
        return method

    def ours(self, group: str) -> State:
        """The tensors of a group under the learner's own names."""
        return published(self.trainer).own_names(self.group(group))


@cache
def golden_names() -> list[str]:
    """Every golden file of the battery that holds a method's parameters."""
    default_config()  # registers the trainers
    files = [file for folder in BATTERY for file in (FOLDER / folder).glob("*.npz")]
    names = sorted(str(file.relative_to(FOLDER)) for file in files)
    return [name for name in names if Golden(name).group("param")]


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float, name: str = "") -> None:
    assert ours.shape == theirs.shape, name
    assert (ours - theirs).abs().max() <= tolerance, name


def loss_and_gradients(method: Method, golden: Golden) -> Tensor:
    """The loss of a training forward on the golden batch; its gradients are added."""
    outputs = method(golden["in/images"])
    return method.backward(method.losses(outputs, golden["in/labels"]), lambda loss: loss)
