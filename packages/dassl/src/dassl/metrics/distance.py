"""Distances between every row of one matrix and every row of another."""

import torch.nn.functional as F
from torch import Tensor

from dassl.utils import check_availability


def compute_distance_matrix(input1: Tensor, input2: Tensor, metric: str = "euclidean") -> Tensor:
    """Return (N, M) distances between the rows of (N, D) and (M, D).

    `metric`: euclidean (squared) or cosine.

    Raises:
        ValueError: an unknown metric, or inputs whose shapes do not match.
    """
    metrics = {"euclidean": euclidean_squared_distance, "cosine": cosine_distance}
    check_availability(metric, list(metrics), what="metric")
    if input1.dim() != 2 or input2.dim() != 2 or input1.shape[1] != input2.shape[1]:
        raise ValueError(
            "Two matrices with equally long rows are needed, but the shapes are "
            f"{tuple(input1.shape)} and {tuple(input2.shape)}"
        )
    return metrics[metric](input1, input2)


def euclidean_squared_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """Return |a - b|^2 for all rows a of (N, D) and b of (M, D), as (N, M)."""
    squares = input1.square().sum(1, keepdim=True) + input2.square().sum(1)
    return (squares - 2 * input1 @ input2.T).clamp_min(0)  # rounding can push 0 below 0


def cosine_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """Return 1 - cos(a, b) for all rows a of (N, D) and b of (M, D), as (N, M)."""
    return 1 - F.normalize(input1, dim=1) @ F.normalize(input2, dim=1).T
