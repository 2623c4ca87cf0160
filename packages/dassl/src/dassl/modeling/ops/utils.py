"""Operations on probabilities and weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sharpen_prob(p: Tensor, temperature: float = 2.0) -> Tensor:
    """Return (N, C) probabilities p^temperature, normalized; above 1 they get more peaked."""
    powered = p.pow(temperature)
    return powered / powered.sum(dim=1, keepdim=True)


def create_onehot(label: Tensor, num_classes: int) -> Tensor:
    """Turn (N,) labels into (N, C) float rows with a single 1."""
    return F.one_hot(label, num_classes).float()


@torch.no_grad()
def ema_model_update(model: nn.Module, ema_model: nn.Module, alpha: float) -> None:
    """Move the parameters of `ema_model`: alpha * their own + (1 - alpha) * those of `model`."""
    for average, current in zip(ema_model.parameters(), model.parameters(), strict=True):
        average.mul_(alpha).add_(current, alpha=1 - alpha)
