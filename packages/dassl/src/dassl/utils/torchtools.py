"""Weights: which are trained, how they start, how many there are."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .checkpoints import (
    check_finite,
    load_checkpoint,
    resume_from_checkpoint,
    save_checkpoint,
    strip_module,
)
from .tools import StrPath, check_availability, tolist_if_not

__all__ = [
    "count_num_param",
    "init_network_weights",
    "load_checkpoint",
    "load_pretrained_weights",
    "open_all_layers",
    "open_specified_layers",
    "resume_from_checkpoint",
    "save_checkpoint",
]


def load_pretrained_weights(model: nn.Module, weight_path: StrPath) -> None:
    """Copy from a checkpoint the tensors whose name and shape `model` has; say which it lacks.

    Raises:
        ValueError: not one tensor fits, or one has values that are not finite.
    """
    checkpoint = load_checkpoint(weight_path)
    saved = strip_module(checkpoint.get("state_dict", checkpoint))
    own = model.state_dict()
    fitting = {
        name: value
        for name, value in saved.items()
        if name in own and own[name].shape == value.shape
    }
    if not fitting:
        raise ValueError(
            f"Nothing in {weight_path} fits the model. The file has {list(saved)[:3]}..., "
            f"the model {list(own)[:3]}..."
        )
    model.load_state_dict({**own, **fitting})
    check_finite(model, None, weight_path)
    print(f"Loaded {len(fitting)} of {len(own)} tensors from {weight_path}")
    left_out = [name for name in saved if name not in fitting]
    if left_out:
        print(f"Left out, no match in the model by name and shape: {left_out}")


def open_all_layers(model: nn.Module) -> None:
    """Put the model in training mode and let every parameter be trained."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | list[str]) -> None:
    """Train the named children of `model`; freeze all others and put them in eval mode.

    Raises:
        ValueError: `model` has no such child.
    """
    names = tolist_if_not(open_layers)
    children = dict(model.named_children())
    for name in names:
        check_availability(name, list(children), what="layer")
    for name, child in children.items():
        child.train(name in names)
        child.requires_grad_(name in names)


def count_num_param(
    model: nn.Module | None = None, params: Iterable[Any] | torch.Tensor | None = None
) -> int:
    """Count the values in `model`, or in `params` (tensors, or groups {'params': tensors}).

    Raises:
        ValueError: neither is given.
    """
    if model is not None:
        return sum(param.numel() for param in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or its params")
    if isinstance(params, torch.Tensor):
        return params.numel()
    return sum(
        count_num_param(params=item["params"]) if isinstance(item, dict) else item.numel()
        for item in params
    )


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Draw the weights of linear, convolutional and normalization layers anew; biases become 0.

    Args:
        init_type: normal (standard deviation `gain`), xavier, kaiming or orthogonal.
        gain: also used by xavier and orthogonal, and for normalization weights N(1, gain^2).
    """
    draws = {
        "normal": lambda weight: nn.init.normal_(weight, 0.0, gain),
        "xavier": lambda weight: nn.init.xavier_normal_(weight, gain=gain),
        "kaiming": lambda weight: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
        "orthogonal": lambda weight: nn.init.orthogonal_(weight, gain=gain),
    }
    check_availability(init_type, list(draws), what="initialization")
    norms = nn.modules.batchnorm._NormBase
    layers = nn.Linear | nn.modules.conv._ConvNd
    for module in model.modules():
        if isinstance(module, layers):
            draws[init_type](module.weight)
        elif isinstance(module, norms) and module.weight is not None:
            nn.init.normal_(module.weight, 1.0, gain)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
