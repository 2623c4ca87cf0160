"""Finding infinite values and NaN in tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name the tensors with values that are infinite or NaN, with how many each has."""
    counts = {name: count(value.detach()) for name, value in tensors.items()}
    return [
        f"{name} ({bad:,} of {tensors[name].numel():,} values)"
        for name, bad in counts.items()
        if bad
    ]


def count(values: Tensor) -> int:
    """Count the values that are infinite or NaN; a finite tensor is passed once, without a copy."""
    if not values.is_floating_point() or not values.numel():
        return 0
    if torch.stack(torch.aminmax(values)).isfinite().all():  # NaN is the extreme of any tensor
        return 0
    return int((~values.isfinite()).sum())
