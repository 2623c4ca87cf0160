"""The text tower: CLIP's frozen causal transformer over heads and tails.

All prompts share a head (see `prompts`), and edits only touch the head. A causal tower
gives the head's rows the same state whatever follows, so they are computed once; each
class computes its own tail, which attends to the head's keys and values. The result,
and every gradient, equals running each full prompt by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from frozen_clip.blocks import attend, finish, queries_keys_values
from frozen_clip.edits import Edits
from frozen_clip.prompts import Prompts

if TYPE_CHECKING:
    from clip.model import CLIP, ResidualAttentionBlock

# Rows of tails whose activations a backward pass keeps; of more, it recomputes them in parts.
MOST_ROWS = 16_384

Groups = tuple[tuple[int, int], ...]  # (classes, tail length) of each run of equal tails
_Precision = tuple[torch.device, torch.dtype, torch.dtype | None]  # the last: of autocast


class _Rows(NamedTuple):
    """The state of all prompts between two layers.

    head_1HD: the shared rows. tails_1RD: the rows of all classes, one class after another, in
    the order of `Prompts.tails`.
    """

    head_1HD: Tensor
    tails_1RD: Tensor


# What tails take from the head, by layer: in layer 0 the positions that follow it (L, D), in
# the others its keys and values, each (B, H, D), of B heads that each precede all tails.
_FromHead = dict[int, tuple[Tensor, ...]]


class TextTower:
    """Drives the text half of a `clip.model.CLIP`, whose weights it shares.

    `layers` counts the blocks, `width` is their D. Layer 0 is the input: its edit gets the
    head's word embeddings, before positions are added.
    """

    def __init__(self, clip_model: CLIP):
        self.clip = clip_model
        self.blocks = clip_model.transformer.resblocks
        self.layers = len(self.blocks)
        self.width = clip_model.ln_final.weight.shape[0]
        self._constant: WeakKeyDictionary[Prompts, dict[tuple[int, _Precision], _Rows]] = (
            WeakKeyDictionary()
        )

    def __call__(
        self, prompts: Prompts, edits: Edits | None = None, tail_words: Tensor | None = None
    ) -> Tensor:
        """Features (C, E) of the end-of-text rows, projected and not normalised.

        `tail_words` replaces the word embeddings of the tails, see `words_of_tails`.
        """
        return self.per_head(prompts, edits or {}, tail_words).squeeze(0)

    def per_head(self, prompts: Prompts, edits: Edits, tail_words: Tensor | None = None) -> Tensor:
        """Features (B, C, E), where edits have made B heads of one, as prompts per image do."""
        first = 0 if tail_words is not None else min(edits, default=self.layers + 1)
        rows = self._below(prompts, first)
        if tail_words is not None:
            rows = rows._replace(tails_1RD=tail_words[None])
        layers = range(first, self.layers + 1)
        _, from_head = self._run_head(rows.head_1HD, edits, layers)
        ends_BCD = self._run_tails(rows.tails_1RD, _groups(prompts), from_head)
        features_BCE = self.clip.ln_final(ends_BCD) @ self.clip.text_projection
        return features_BCE[:, prompts.place_C]

    def words(self, ids: Tensor) -> Tensor:
        """Word embeddings (..., D) of token ids (...)."""
        return self.clip.token_embedding(ids).to(self.clip.dtype)

    def words_of_tails(self, prompts: Prompts) -> Tensor:
        """Word embeddings (R, D) of all tails; `Prompts.tail_rows` says which row is whose."""
        return torch.cat([self.words(ids_CT).flatten(0, 1) for ids_CT in prompts.tails])

    def _below(self, prompts: Prompts, first: int) -> _Rows:
        """The state in front of layer `first`: a constant of the prompts, computed once."""
        known = self._constant.setdefault(prompts, {})
        key = (first, self._precision())
        if key not in known:
            # Made as ordinary tensors even during inference, since training may use them.
            with torch.inference_mode(False), torch.no_grad():
                head, from_head = self._run_head(self.words(prompts.head_H)[None], {}, range(first))
                words_1RD = self.words_of_tails(prompts)[None]
                known[key] = _Rows(head, self._run_tails(words_1RD, _groups(prompts), from_head))
        return known[key]

    def _precision(self) -> _Precision:
        weight = self.clip.text_projection
        kind = weight.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return weight.device, weight.dtype, autocast

    def _run_head(self, x: Tensor, edits: Edits, layers: range) -> tuple[Tensor, _FromHead]:
        """The head's state (B, H, D) behind some layers, and what tails need of it in each."""
        from_head: _FromHead = {}
        for layer in layers:
            if layer in edits:
                x = edits[layer](x)
            if layer == 0:
                positions_LD = self.clip.positional_embedding.to(self.clip.dtype)
                from_head[0] = (positions_LD[x.shape[1] :],)
                x = x + positions_LD[: x.shape[1]]
                continue
            block = self.blocks[layer - 1]
            q, k, v = queries_keys_values(block, x)
            from_head[layer] = (k, v)
            if layer < self.layers:
                x = finish(block, x, attend(block, q, k, v, _causal(x.shape[1], 0, x.device)))
        return x, from_head

    def _run_tails(self, tails_1RD: Tensor, groups: Groups, from_head: _FromHead) -> Tensor:
        """The tails behind the layers of `from_head` (B, R, D); behind the tower's last one only
        their end-of-text rows (B, C, D). More than MOST_ROWS are run in parts."""
        if not from_head:
            return tails_1RD
        heads = max((len(given[0]) for layer, given in from_head.items() if layer), default=1)
        parts = list(_parts(groups, MOST_ROWS // heads))
        if len(parts) == 1:
            return self._run_part(tails_1RD, groups, from_head)
        sizes = [sum(count * length for count, length in part) for part in parts]
        return torch.cat(
            [
                checkpoint(
                    self._run_part, *part, from_head, use_reentrant=False, preserve_rng_state=False
                )
                if torch.is_grad_enabled()
                else self._run_part(*part, from_head)
                for part in zip(tails_1RD.split(sizes, dim=1), parts, strict=True)
            ],
            dim=1,
        )

    def _run_part(self, x_BRD: Tensor, groups: Groups, from_head: _FromHead) -> Tensor:
        for layer, given in from_head.items():
            if layer == 0:
                parts = [p + given[0][: p.shape[2]] for p in _split(x_BRD, groups)]
                x_BRD = torch.cat([part.flatten(1, 2) for part in parts], dim=1)
            else:
                x_BRD = self._layer(layer, x_BRD.expand(len(given[0]), -1, -1), groups, *given)
        return x_BRD

    def _layer(
        self, layer: int, x_BRD: Tensor, groups: Groups, head_k: Tensor, head_v: Tensor
    ) -> Tensor:
        """One block for the tails; the tower's last gives the end-of-text row of each class."""
        block, last = self.blocks[layer - 1], layer == self.layers
        by_group = (_split(part, groups) for part in queries_keys_values(block, x_BRD))
        attended = [
            _attend_tails(block, q[:, :, -1:] if last else q, k, v, head_k, head_v)
            for q, k, v in zip(*by_group, strict=True)
        ]
        if last:
            x_BRD = torch.cat([part[:, :, -1] for part in _split(x_BRD, groups)], dim=1)
        return finish(block, x_BRD, torch.cat(attended, dim=1))


def _groups(prompts: Prompts) -> Groups:
    return tuple((len(ids_CT), ids_CT.shape[1]) for ids_CT in prompts.tails)


def _split(rows_BRD: Tensor, groups: Groups) -> list[Tensor]:
    """Rows of tails as one tensor (B, C_g, T_g, D) per group."""
    parts = rows_BRD.split([count * length for count, length in groups], dim=1)
    return [part.unflatten(1, group) for part, group in zip(parts, groups, strict=True)]


def _parts(groups: Groups, most_rows: int) -> Iterator[Groups]:
    """The groups cut into consecutive parts of at most `most_rows` rows, or one class each."""
    part: list[tuple[int, int]] = []
    room = most_rows
    for count, length in groups:
        while count:
            fit = max(min(count, room // length), 0 if part else 1)
            if fit:
                part.append((fit, length))
                count, room = count - fit, room - fit * length
            if count:
                yield tuple(part)
                part, room = [], most_rows
    yield tuple(part)


def _attend_tails(
    block: ResidualAttentionBlock,
    q_BCQD: Tensor,
    k_BCTD: Tensor,
    v_BCTD: Tensor,
    head_k_BHD: Tensor,
    head_v_BHD: Tensor,
) -> Tensor:
    """Attention of tails of one length over their head and themselves: (B, C * Q, D).

    Q is T, or 1 for the end-of-text row, which sees everything and needs no mask. The head's
    keys and values stand in no class's memory: all tails meet them in one product.
    """
    heads, (classes, queries) = block.attn.num_heads, q_BCQD.shape[1:3]
    q, k, v = (_by_attention_head(t, heads) for t in (q_BCQD, k_BCTD, v_BCTD))  # (B, A, C, T, d)
    head_k, head_v = (_by_attention_head(t, heads) for t in (head_k_BHD, head_v_BHD))
    q = q * q.shape[-1] ** -0.5
    to_tail = q @ k.mT
    if queries > 1:
        to_tail = to_tail.masked_fill(~_causal(queries, 0, q.device), float("-inf"))
    to_head = (q.flatten(2, 3) @ head_k.mT).unflatten(2, (classes, queries))
    share = torch.cat([to_head, to_tail], dim=-1).softmax(dim=-1, dtype=torch.float32).to(v.dtype)
    of_head, of_tail = share[..., : head_k.shape[2]], share[..., head_k.shape[2] :]
    attended = (of_head.flatten(2, 3) @ head_v).view_as(q) + of_tail @ v
    return attended.movedim(1, 3).flatten(3).flatten(1, 2)


def _by_attention_head(rows: Tensor, heads: int) -> Tensor:
    """Rows (B, ..., L, D) as (B, A, ..., L, D / A) of A attention heads.

    Copied here once: products would copy them for each of its operands, and keep the copies.
    """
    return rows.unflatten(-1, (heads, -1)).movedim(-2, 1).contiguous()


def _causal(rows: int, before: int, device: torch.device) -> Tensor:
    """(rows, before + rows): row i sees all `before` and the rows up to itself."""
    return torch.ones(rows, before + rows, dtype=torch.bool, device=device).tril(before)
