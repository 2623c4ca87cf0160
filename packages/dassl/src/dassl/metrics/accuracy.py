"""Classification accuracy."""

from collections.abc import Sequence

import torch
from torch import Tensor


def compute_accuracy(
    output: Tensor | Sequence[Tensor], target: Tensor, topk: Sequence[int] = (1,)
) -> list[Tensor]:
    """Return for each k the share, in percent, of images whose label is among the k best.

    Args:
        output: (N, C) scores, or a sequence whose first item is that.
        target: (N,) labels.
        topk: numbers of guesses; more than C counts as C.

    Returns:
        One tensor of shape (1,) per k, on the device of `output`.
    """
    scores = output if isinstance(output, Tensor) else output[0]
    guesses = scores.topk(min(max(topk), scores.shape[1]), dim=1).indices  # (N, K)
    hits = guesses == target.view(-1, 1)
    return [100.0 * hits[:, :k].any(dim=1).to(torch.float32).mean().view(1) for k in topk]
