"""The net behind a tower that CLIP-Adapter and CoPrompt learn."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from training.settings import SHARE, key


def ratio(default: float, features: str) -> Any:
    """The key of an adapter's `ratio`."""
    meaning = f"the adapter's share of {features}; the rest is the feature itself"
    return key(default, SHARE, meaning, fixed=True)


class FeatureAdapter(nn.Module):
    """`ratio * relu(up relu(down x)) + (1 - ratio) * x`, for features of width E.

    CLIP-Adapter's equation 5 (arXiv 2110.04544); down (E / reduction, E) and up (E, E / reduction)
    have no bias. So a longer x gives a longer result in the same direction: what is normalized
    afterwards does not depend on whether x was.
    """

    def __init__(self, width: int, ratio: float, reduction: int = 4):
        super().__init__()
        self.ratio = ratio
        self.down = nn.Linear(width, width // reduction, bias=False)
        self.up = nn.Linear(width // reduction, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        return self.ratio * F.relu(self.up(F.relu(self.down(x)))) + (1 - self.ratio) * x
