"""The golden files: the small CLIP they were made with, a method's numbers, comparing with them."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozen_clip import FrozenCLIP
from frozen_clip.weights.state_dict import build
from training.method import Method

FOLDER = Path(__file__).parents[1] / "golden"
LOGITS, REST = 1e-4, 1e-5  # tolerances
Renaming = Callable[[dict[str, Tensor]], dict[str, Tensor]]


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


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float, name: str = "") -> None:
    assert ours.shape == theirs.shape, name
    assert (ours - theirs).abs().max() <= tolerance, name


def total_loss(method: Method, golden: Golden) -> Tensor:
    """The loss of a training forward on the golden batch."""
    outputs = method(golden["in/images"])
    return sum(method.losses(outputs, golden["in/labels"]).values())


def check_gradients(method: Method, golden: Golden, from_public: Renaming) -> None:
    """Every gradient of the loss, and no other, is in the file."""
    total_loss(method, golden).backward()
    theirs = from_public(golden.group("grad"))
    ours = {name: p.grad for name, p in method.learner.named_parameters()}
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert_close(gradient, theirs[name], REST, name)


def check_steps(
    method: Method,
    golden: Golden,
    from_public: Renaming,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Six steps on the golden batch: each loss, and the parameters after them.

    An evaluation between two steps leaves nothing behind.
    """
    for expected in golden["traj/losses"]:
        with torch.inference_mode():
            method.classify(golden["in/images"], method.text_features(), seen=True)
        optimizer.zero_grad()
        loss = total_loss(method, golden)
        assert_close(loss, expected, REST)
        loss.backward()
        optimizer.step()
    state = method.learner.state_dict()
    for name, value in from_public(golden.group("after6")).items():
        assert_close(state[name], value, REST, name)
