"""What a method changes inside a layer: norms, terms of projections, a branch beside the block.

A method hands a tower `{layer: Inside(...)}`, layers counted from 1. All of it acts on each token
by itself. So the shared prefix of the prompts stays shared, exactly, unless a term draws random
numbers, such as a dropout's.

    MultiModalAdapter   a branch beside the block
    CLIP-LoRA           low-rank terms beside q, k, v and the output projection
    2SFS                weight and bias of ln_1 and ln_2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Term = Callable[[Tensor], Tensor]  # (..., D) -> (..., D), each row by itself


@dataclass(frozen=True)
class Inside:
    """How one layer computes otherwise than the frozen one.

    norms: weight and bias, each (D), in place of those of 'ln_1' or 'ln_2'
    terms: for 'q', 'k', 'v' or 'o' a function of what that projection reads, added to its output
    beside: a function of ln_1(x), where x is what the block reads, added to the block's output.
        In layer 0 of what the tower's input is: of the word embeddings, before positions are
        added; of what `ln_pre` gives
    """

    norms: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    terms: Mapping[str, Term] = field(default_factory=dict)
    beside: Term | None = None


Insides = Mapping[int, Inside]
FROZEN = Inside()  # a layer as CLIP has it


class OwnTokens(NamedTuple):
    """Tokens of each class by itself: before `layer` they replace those from position `at` on."""

    layer: int
    tokens_CKD: Tensor
    at: int = 1


def normalized(block: nn.Module, name: str, x: Tensor, inside: Inside) -> Tensor:
    """ln_1 or ln_2 of rows (..., D), by the frozen weights or by the method's; at least in float32,
    as CLIP does."""
    norm = getattr(block, name)
    if name not in inside.norms:
        return norm(x)
    exact = torch.promote_types(x.dtype, torch.float32)
    weight, bias = (tensor.to(exact) for tensor in inside.norms[name])
    return F.layer_norm(x.to(exact), norm.normalized_shape, weight, bias, norm.eps).to(x.dtype)


def with_term(projected: Tensor, name: str, read: Tensor, inside: Inside) -> Tensor:
    """The output of a projection and the method's term beside it, if there is one."""
    return projected + inside.terms[name](read) if name in inside.terms else projected


def with_branch(x: Tensor, inside: Inside) -> Tensor:
    """A tower's input and the branch beside it, if there is one."""
    return x if inside.beside is None else x + inside.beside(x)
