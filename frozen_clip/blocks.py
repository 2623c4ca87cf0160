"""One residual block of CLIP's transformers, split so that towers can skip rows.

A block is `x + attention(ln_1(x))`, then `x + mlp(ln_2(x))`. The weights are those
of `clip.model.ResidualAttentionBlock`; only the order of work differs from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from frozen_clip.inside import FROZEN, Inside, normalized, with_term

if TYPE_CHECKING:
    from clip.model import ResidualAttentionBlock


def queries_keys_values(
    block: ResidualAttentionBlock, x: Tensor, inside: Inside = FROZEN
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize rows (..., D) and project them: three tensors (..., D)."""
    attn, h = block.attn, normalized(block, "ln_1", x, inside)
    projected = F.linear(h, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    q, k, v = (with_term(t, name, h, inside) for name, t in zip("qkv", projected, strict=True))
    return q, k, v


def attend(
    block: ResidualAttentionBlock,
    q_NLD: Tensor,
    k_NSD: Tensor,
    v_NSD: Tensor,
    mask_LS: Tensor | None = None,
) -> Tensor:
    """Multi-head attention of L queries over S keys, before the output projection: (N, L, D).

    `mask_LS` is True where a query may look; None means everywhere.
    """
    heads = block.attn.num_heads
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q_NLD, k_NSD, v_NSD))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask_LS).transpose(1, 2).flatten(2)


def output_and_mlp(
    block: ResidualAttentionBlock, x: Tensor, attended: Tensor, inside: Inside = FROZEN
) -> Tensor:
    """Output projection of what `attend` gave, and MLP, each added to rows `x` (..., D)."""
    projected = F.linear(attended, block.attn.out_proj.weight, block.attn.out_proj.bias)
    y = x + with_term(projected, "o", attended, inside)
    y = y + block.mlp.c_proj(activate(block, block.mlp.c_fc(normalized(block, "ln_2", y, inside))))
    return y if inside.beside is None else y + inside.beside(normalized(block, "ln_1", x, inside))


def activate(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """The block's own activation, written such that a backward pass keeps one tensor."""
    return F.gelu(x) if isinstance(block.mlp.gelu, nn.GELU) else quick_gelu(x)


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's `x * sigmoid(1.702 x)`."""
    return F.silu(1.702 * x) / 1.702
