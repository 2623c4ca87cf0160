"""Edits: what a method does to the token sequence before a layer.

An edit is a function from a token sequence (N, L, D) to a token sequence
(N, L', D). A method hands a tower a dict `{layer: edit}`; the edit runs just
before that layer, counted from 1. Layer 0 stands for the vision tower's input,
after the positional embedding and before `ln_pre`.

    MMRL    insert before the first layer of REP_LAYERS, then overwrite
    MMRL++  insert before the first layer of REP_LAYERS, then blend

Where tokens differ from sequence to sequence they are (N, K, D); one sequence and N such
tokens make N sequences. Edits concatenate and never cast: under autocast the stream may be half
precision while learned tokens are not, and `torch.cat` then promotes the stream,
as the published implementations do.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Edit = Callable[[Tensor], Tensor]
Edits = dict[int, Edit]


def _side_by_side(*parts: Tensor) -> Tensor:
    """Concatenate (L_i, D) or (N_i, L_i, D) along L, where every N_i is N or 1: (N, L, D)."""
    batch = max(part.shape[0] for part in parts if part.dim() == 3)
    return torch.cat([part.expand(batch, -1, -1) for part in parts], dim=1)


def insert(tokens: Tensor, at: int = 1) -> Edit:
    """Put K tokens, (K, D) or (N, K, D), in front of position `at`: L grows by K."""

    def edit(x_NLD: Tensor) -> Tensor:
        return _side_by_side(x_NLD[:, :at], tokens, x_NLD[:, at:])

    return edit


def overwrite(tokens: Tensor, at: int = 1) -> Edit:
    """Replace the K tokens from position `at` by `tokens`, (K, D) or (N, K, D)."""

    def edit(x_NLD: Tensor) -> Tensor:
        end = at + tokens.shape[-2]
        return _side_by_side(x_NLD[:, :at], tokens, x_NLD[:, end:])

    return edit


def blend(tokens: Tensor, beta: float, at: int = 1) -> Edit:
    """Replace the K tokens from position `at` by `beta * tokens + (1 - beta) * theirs`.

    MMRL++'s progressive representation composition (arXiv 2505.10088); `beta` weighs
    the new tokens, so `beta = 1` is `overwrite`.
    """

    def edit(x_NLD: Tensor) -> Tensor:
        old_NKD = x_NLD[:, at : at + tokens.shape[-2]]
        return overwrite(beta * tokens + (1 - beta) * old_NKD, at)(x_NLD)

    return edit
