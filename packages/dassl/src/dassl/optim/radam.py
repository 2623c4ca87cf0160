"""Optimizers under the path and the signatures that plugins know; PyTorch's own compute."""

from collections.abc import Iterable
from typing import Any

import torch

Betas = tuple[float, float]


class RAdam(torch.optim.RAdam):
    """Rectified Adam with decoupled weight decay."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        degenerated_to_sgd: bool = True,
    ) -> None:
        """`degenerated_to_sgd`: the first steps, which cannot be rectified, are taken as SGD's.

        Raises:
            ValueError: it is False.
        """
        if not degenerated_to_sgd:
            raise ValueError(
                "RAdam that leaves out its first steps (degenerated_to_sgd False) "
                "is not here: leave it True, or take torch.optim.Adam"
            )
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)


class PlainRAdam(RAdam):
    """The same; elsewhere it is written more plainly."""


class AdamW(torch.optim.AdamW):
    """Adam with decoupled weight decay, by default none."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        warmup: int = 0,
    ) -> None:
        """
        Raises:
            ValueError: a `warmup` in steps is asked for.
        """
        if warmup:
            raise ValueError(f"AdamW with warmup={warmup} is not here: give OPTIM.WARMUP_EPOCH")
        super().__init__(params, lr, betas, eps, weight_decay)
