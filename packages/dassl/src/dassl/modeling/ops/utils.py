"""Operations on probabilities, batches and weights that semi-supervised plugins use."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sharpen_prob(p: Tensor, temperature: float = 2.0) -> Tensor:
    """Return (N, C) probabilities p^temperature, normalised; above 1 they get more peaked."""
    powered = p.pow(temperature)
    return powered / powered.sum(dim=1, keepdim=True)


def create_onehot(label: Tensor, num_classes: int) -> Tensor:
    """Turn (N,) labels into (N, C) float rows with a single 1."""
    return F.one_hot(label, num_classes).float()


def reverse_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return a batch and its labels in reverse order."""
    return data.flip(0), label.flip(0)


def shuffle_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return a batch and its labels in one random order."""
    order = torch.randperm(len(data), device=data.device)
    return data[order], label[order]


def sigmoid_rampup(current: float, rampup_length: float) -> float:
    """Return exp(-5 (1 - current / rampup_length)^2), growing to 1 at `rampup_length`."""
    if rampup_length == 0:
        return 1.0
    left = 1.0 - min(max(current / rampup_length, 0.0), 1.0)
    return math.exp(-5.0 * left * left)


def linear_rampup(current: float, rampup_length: float) -> float:
    """Return current / rampup_length, from 0 to 1 at `rampup_length`."""
    return 1.0 if rampup_length == 0 else min(max(current / rampup_length, 0.0), 1.0)


@torch.no_grad()
def ema_model_update(model: nn.Module, ema_model: nn.Module, alpha: float) -> None:
    """Move the parameters of `ema_model`: alpha * their own + (1 - alpha) * those of `model`."""
    for average, current in zip(ema_model.parameters(), model.parameters(), strict=True):
        average.mul_(alpha).add_(current, alpha=1 - alpha)
