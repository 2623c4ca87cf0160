"""Checks for infinite values and NaN, in weights that were read and in what they compute."""

from collections.abc import Mapping

import torch
from torch import Tensor


def check_finite(tensors: Mapping[str, Tensor], source: object, advice: str) -> None:
    """Raise ValueError unless all values are finite; costs one pass over them, and no copy.

    `source` is what they were read from, `advice` the sentence on what to do.
    """
    bad = [
        f"{name} ({int((~tensor.isfinite()).sum()):,} of {tensor.numel():,} values)"
        for name, tensor in tensors.items()
        if not is_finite(tensor)
    ]
    if bad:
        more = f" and {len(bad) - 3} more tensors" if len(bad) > 3 else ""
        shown = ", ".join(bad[:3])
        raise ValueError(f"{source} has values that are infinite or NaN: {shown}{more}. {advice}")


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is infinite or NaN, which is both extremes of any tensor that has it."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())
