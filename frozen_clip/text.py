"""The text tower: CLIP's frozen causal transformer over a shared prefix and suffixes.

All prompts share a prefix (see `prompts`), and edits only touch the prefix. A causal tower
gives the prefix's rows the same state whatever follows, so they are computed once; each
class computes its own suffix, which attends to the prefix's keys and values. The result,
and every gradient, equals running each full prompt by itself. So it does with changes inside
the layers (see `inside`), which act on each row alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from frozen_clip.blocks import attend, output_and_mlp, queries_keys_values
from frozen_clip.edits import Edits
from frozen_clip.inside import FROZEN, Inside, Insides, OwnTokens, with_branch
from frozen_clip.prompts import Prompts

if TYPE_CHECKING:
    from clip.model import CLIP, ResidualAttentionBlock

# A backward pass keeps the activations of so many suffix rows; of more it recomputes them in parts.
MOST_ROWS = 16_384

Groups = tuple[tuple[int, int], ...]  # (classes, suffix length) of each run of equal suffixes
_Precision = tuple[torch.device, torch.dtype, torch.dtype | None]  # the last: of autocast


class _Rows(NamedTuple):
    """The state of all prompts between two layers.

    prefix_1PD: the shared rows. suffixes_1RD: the rows of all classes, one class after another, in
    the order of `Prompts.suffixes`.
    """

    prefix_1PD: Tensor
    suffixes_1RD: Tensor


# What suffixes need of the prefix, by layer. Layer 0: the positional embeddings behind it (L, D).
# Others: keys and values, each (B, P, D), of B prefixes, each of which precedes all suffixes.
_FromPrefix = dict[int, tuple[Tensor, ...]]


class TextTower:
    """Drives the text half of a `clip.model.CLIP`, whose weights it shares.

    `layers` counts the blocks, `width` is their D. Layer 0 is the input: its edit gets the
    prefix's word embeddings, before positions are added.
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
        self,
        prompts: Prompts,
        edits: Edits | None = None,
        suffix_words: Tensor | None = None,
        insides: Insides | None = None,
        own: OwnTokens | None = None,
    ) -> Tensor:
        """Features (C, E) of the end-of-text rows, projected and not normalized.

        `suffix_words` replaces the word embeddings of the suffixes, see `suffix_embeddings`;
        `own` are tokens that each class has for itself.
        """
        return self.per_prefix(prompts, edits or {}, suffix_words, insides, own).squeeze(0)

    def per_prefix(
        self,
        prompts: Prompts,
        edits: Edits,
        suffix_words: Tensor | None = None,
        insides: Insides | None = None,
        own: OwnTokens | None = None,
    ) -> Tensor:
        """Features (B, C, E), where edits made B prefixes of one, as CoCoOp's for each image."""
        insides, top = insides or {}, self.layers + 1
        changed = [*edits, *insides, *([own.layer] if own else [])]
        first = 0 if suffix_words is not None else min(changed, default=top)
        rows, groups = self._below(prompts, first), _groups(prompts)
        if suffix_words is not None:
            rows = rows._replace(suffixes_1RD=suffix_words[None])
        if own:
            rows = self._run(rows, groups, edits, insides, range(first, own.layer))
            rows, groups = _separated(rows, groups, own, prompts.place_C)
            first = own.layer
        rows = self._run(rows, groups, edits, insides, range(first, top))
        features_BCE = self.clip.ln_final(rows.suffixes_1RD) @ self.clip.text_projection
        return features_BCE[:, prompts.place_C]

    def words(self, ids: Tensor) -> Tensor:
        """Word embeddings (..., D) of token ids (...)."""
        return self.clip.token_embedding(ids).to(self.clip.dtype)

    def suffix_embeddings(self, prompts: Prompts) -> Tensor:
        """Word embeddings (R, D) of all suffixes; `Prompts.suffix_rows` says which row is whose."""
        return torch.cat([self.words(ids_CT).flatten(0, 1) for ids_CT in prompts.suffixes])

    def _below(self, prompts: Prompts, first: int) -> _Rows:
        """The state in front of layer `first`: a constant of the prompts, computed once."""
        known = self._constant.setdefault(prompts, {})
        key = (first, self._precision())
        if key not in known:
            # Made as ordinary tensors even during inference, since training may use them.
            with torch.inference_mode(False), torch.no_grad():
                words_1RD = self.suffix_embeddings(prompts)[None]
                rows = _Rows(self.words(prompts.prefix_P)[None], words_1RD)
                known[key] = self._run(rows, _groups(prompts), {}, {}, range(first))
        return known[key]

    def _precision(self) -> _Precision:
        weight = self.clip.text_projection
        kind = weight.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return weight.device, weight.dtype, autocast

    def _run(
        self, rows: _Rows, groups: Groups, edits: Edits, insides: Insides, layers: range
    ) -> _Rows:
        """The state behind some layers, in order."""
        prefix_BPD, from_prefix = self._run_prefix(rows.prefix_1PD, edits, insides, layers)
        suffixes_BRD = self._run_suffixes(rows.suffixes_1RD, groups, from_prefix, insides)
        return _Rows(prefix_BPD, suffixes_BRD)

    def _run_prefix(
        self, x: Tensor, edits: Edits, insides: Insides, layers: range
    ) -> tuple[Tensor, _FromPrefix]:
        """The prefix's state (B, P, D) behind some layers, and what suffixes need of it in each."""
        from_prefix: _FromPrefix = {}
        for layer in layers:
            if layer in edits:
                x = edits[layer](x)
            if layer == 0:
                positions_LD = self.clip.positional_embedding.to(self.clip.dtype)
                from_prefix[0] = (positions_LD[x.shape[1] :],)
                x = with_branch(x, insides.get(0, FROZEN)) + positions_LD[: x.shape[1]]
                continue
            block, inside = self.blocks[layer - 1], insides.get(layer, FROZEN)
            q, k, v = queries_keys_values(block, x, inside)
            from_prefix[layer] = (k, v)
            if layer < self.layers:
                attended = attend(block, q, k, v, _causal(x.shape[1], 0, x.device))
                x = output_and_mlp(block, x, attended, inside)
        return x, from_prefix

    def _run_suffixes(
        self, suffixes_1RD: Tensor, groups: Groups, from_prefix: _FromPrefix, insides: Insides
    ) -> Tensor:
        """The suffixes (B, R, D) behind the layers of `from_prefix`; behind the tower's last only
        their end-of-text rows (B, C, D). More than MOST_ROWS are run in parts."""
        if not from_prefix:
            return suffixes_1RD
        prefixes = max((len(given[0]) for layer, given in from_prefix.items() if layer), default=1)
        parts = list(_parts(groups, MOST_ROWS // prefixes))
        if len(parts) == 1:
            return self._run_part(suffixes_1RD, groups, from_prefix, insides)
        sizes = [sum(count * length for count, length in part) for part in parts]
        return torch.cat(
            [
                checkpoint(
                    self._run_part,
                    *part,
                    from_prefix,
                    insides,
                    use_reentrant=False,
                    preserve_rng_state=bool(insides),  # which may draw, as a dropout does
                )
                if torch.is_grad_enabled()
                else self._run_part(*part, from_prefix, insides)
                for part in zip(suffixes_1RD.split(sizes, dim=1), parts, strict=True)
            ],
            dim=1,
        )

    def _run_part(
        self, x_BRD: Tensor, groups: Groups, from_prefix: _FromPrefix, insides: Insides
    ) -> Tensor:
        for layer, given in from_prefix.items():
            inside = insides.get(layer, FROZEN)
            if layer == 0:
                split = _split(with_branch(x_BRD, inside), groups)
                parts = [part + given[0][: part.shape[2]] for part in split]
                x_BRD = torch.cat([part.flatten(1, 2) for part in parts], dim=1)
            else:
                x_BRD = x_BRD.expand(len(given[0]), -1, -1)
                x_BRD = self._layer(layer, x_BRD, groups, inside, *given)
        return x_BRD

    def _layer(
        self,
        layer: int,
        x_BRD: Tensor,
        groups: Groups,
        inside: Inside,
        prefix_k: Tensor,
        prefix_v: Tensor,
    ) -> Tensor:
        """One block for the suffixes; the tower's last gives the end-of-text row of each class."""
        block, last = self.blocks[layer - 1], layer == self.layers
        by_group = (_split(part, groups) for part in queries_keys_values(block, x_BRD, inside))
        attended = [
            _attend_suffixes(block, q[:, :, -1:] if last else q, k, v, prefix_k, prefix_v)
            for q, k, v in zip(*by_group, strict=True)
        ]
        if last:
            x_BRD = torch.cat([part[:, :, -1] for part in _split(x_BRD, groups)], dim=1)
        return output_and_mlp(block, x_BRD, torch.cat(attended, dim=1), inside)


def _groups(prompts: Prompts) -> Groups:
    return tuple((len(ids_CT), ids_CT.shape[1]) for ids_CT in prompts.suffixes)


def _split(rows_BRD: Tensor, groups: Groups) -> list[Tensor]:
    """Rows of suffixes as one tensor (B, C_g, T_g, D) per group."""
    parts = rows_BRD.split([count * length for count, length in groups], dim=1)
    return [part.unflatten(1, group) for part, group in zip(parts, groups, strict=True)]


def _separated(
    rows: _Rows, groups: Groups, own: OwnTokens, place_C: Tensor
) -> tuple[_Rows, Groups]:
    """The state with the prefix cut at `own.at`: the rest of it, with the tokens of each class
    in it, stands in front of that class's suffix."""
    tokens_CKD = own.tokens_CKD[place_C.argsort()]
    end = own.at + tokens_CKD.shape[1]
    shared, rest_1ND = rows.prefix_1PD[:, : own.at], rows.prefix_1PD[:, end:]
    parts, first = [], 0
    for suffixes_1CTD in _split(rows.suffixes_1RD, groups):
        count = suffixes_1CTD.shape[1]
        between = (tokens_CKD[first : first + count], rest_1ND.expand(count, -1, -1))
        parts.append(torch.cat([*between, suffixes_1CTD[0]], dim=1))
        first += count
    separated = torch.cat([part.flatten(0, 1) for part in parts])
    return _Rows(shared, separated[None]), tuple((len(p), p.shape[1]) for p in parts)


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


def _attend_suffixes(
    block: ResidualAttentionBlock,
    q_BCQD: Tensor,
    k_BCTD: Tensor,
    v_BCTD: Tensor,
    prefix_k_BPD: Tensor,
    prefix_v_BPD: Tensor,
) -> Tensor:
    """Attention of suffixes of one length over their prefix and themselves: (B, C * Q, D).

    Q is T, or 1 for the end-of-text row, which sees everything and needs no mask. The prefix's
    keys and values are not copied for every class: all suffixes attend to them in one matmul.
    """
    heads, (classes, queries) = block.attn.num_heads, q_BCQD.shape[1:3]
    q, k, v = (_split_heads(t, heads) for t in (q_BCQD, k_BCTD, v_BCTD))  # (B, A, C, T, d)
    prefix_k, prefix_v = (_split_heads(t, heads) for t in (prefix_k_BPD, prefix_v_BPD))
    q = q * q.shape[-1] ** -0.5
    to_suffix = q @ k.mT
    if queries > 1:
        to_suffix = to_suffix.masked_fill(~_causal(queries, 0, q.device), float("-inf"))
    to_prefix = (q.flatten(2, 3) @ prefix_k.mT).unflatten(2, (classes, queries))
    share = (
        torch.cat([to_prefix, to_suffix], dim=-1).softmax(dim=-1, dtype=torch.float32).to(v.dtype)
    )
    of_prefix, of_suffix = share[..., : prefix_k.shape[2]], share[..., prefix_k.shape[2] :]
    attended = (of_prefix.flatten(2, 3) @ prefix_v).view_as(q) + of_suffix @ v
    return attended.movedim(1, 3).flatten(3).flatten(1, 2)


def _split_heads(rows: Tensor, heads: int) -> Tensor:
    """Rows (B, ..., L, D) as (B, A, ..., L, D / A) of A attention heads.

    Copied here once: each matmul would make and keep a copy of its own.
    """
    return rows.unflatten(-1, (heads, -1)).movedim(-2, 1).contiguous()


def _causal(rows: int, before: int, device: torch.device) -> Tensor:
    """(rows, before + rows): row i sees all `before` and the rows up to itself."""
    return torch.ones(rows, before + rows, dtype=torch.bool, device=device).tril(before)
