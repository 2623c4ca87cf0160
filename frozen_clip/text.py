"""The text tower: CLIP's frozen causal transformer over heads and tails.

All prompts share a head (see `prompts`), and edits only touch the head. A causal tower
gives the head's rows the same state whatever follows, so they are computed once; each
class computes its own tail, which attends to the head's keys and values. The result,
and every gradient, equals running each full prompt by itself.
"""

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from frozen_clip.blocks import attend, finish, queries_keys_values
from frozen_clip.edits import Edits
from frozen_clip.prompts import Prompts


@dataclass(frozen=True)
class _Rows:
    """The state of all prompts between two layers, for B heads that each precede all tails.

    head_BHD: the shared rows. tails_BRD: the rows of all classes, one class after another,
    in the order of `Prompts.tails`. groups: (classes, tail length) of each run of equal tails.
    """

    head_BHD: Tensor
    tails_BRD: Tensor
    groups: tuple[tuple[int, int], ...]

    def with_head(self, head_BHD: Tensor) -> "_Rows":
        tails_BRD = self.tails_BRD.expand(len(head_BHD), -1, -1)
        return replace(self, head_BHD=head_BHD, tails_BRD=tails_BRD)

    def split(self, rows_BRD: Tensor) -> list[Tensor]:
        """Rows of the tails as one tensor (B, C_g, T_g, D) per group."""
        parts = rows_BRD.split([count * length for count, length in self.groups], dim=1)
        return [part.unflatten(1, g) for part, g in zip(parts, self.groups, strict=True)]


class TextTower:
    """Drives the text half of a `clip.model.CLIP`, whose weights it shares.

    `layers` counts the blocks, `width` is their D. Layer 0 is the input: its edit gets the
    head's word embeddings, before positions are added.
    """

    def __init__(self, clip_model: nn.Module):
        self.clip = clip_model
        self.blocks = clip_model.transformer.resblocks
        self.layers = len(self.blocks)
        self.width = clip_model.ln_final.weight.shape[0]
        self._constant: WeakKeyDictionary[Prompts, dict] = WeakKeyDictionary()

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
            rows = replace(rows, tails_BRD=tail_words[None])
        rows = self._run(rows, edits, range(first, self.layers + 1))
        features_BCE = self.clip.ln_final(rows.tails_BRD) @ self.clip.text_projection
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
                tails = self.words_of_tails(prompts)[None]
                groups = tuple((len(ids), ids.shape[1]) for ids in prompts.tails)
                rows = _Rows(self.words(prompts.head_H)[None], tails, groups)
                known[key] = self._run(rows, {}, range(first))
        return known[key]

    def _precision(self) -> tuple:
        weight = self.clip.text_projection
        kind = weight.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return weight.device, weight.dtype, autocast

    def _run(self, rows: _Rows, edits: Edits, layers: range) -> _Rows:
        for layer in layers:
            if layer in edits:
                rows = rows.with_head(edits[layer](rows.head_BHD))
            rows = self._layer(layer, rows) if layer else self._with_positions(rows)
        return rows

    def _with_positions(self, rows: _Rows) -> _Rows:
        positions_LD = self.clip.positional_embedding.to(self.clip.dtype)
        head = rows.head_BHD.shape[1]
        tails = [
            part + positions_LD[head : head + part.shape[2]] for part in rows.split(rows.tails_BRD)
        ]
        tails_BRD = torch.cat([part.flatten(1, 2) for part in tails], dim=1)
        return replace(rows, head_BHD=rows.head_BHD + positions_LD[:head], tails_BRD=tails_BRD)

    def _layer(self, layer: int, rows: _Rows) -> _Rows:
        """One block; the tower's last one gives the end-of-text row of each class only."""
        block = self.blocks[layer - 1]
        last = layer == self.layers
        head_q, head_k, head_v = queries_keys_values(block, rows.head_BHD)
        groups = (rows.split(part) for part in queries_keys_values(block, rows.tails_BRD))
        attended_BRD = torch.cat(
            [
                _attend_tails(block, q[:, :, -1:] if last else q, k, v, head_k, head_v)
                for q, k, v in zip(*groups, strict=True)
            ],
            dim=1,
        )
        if last:
            ends_BCD = torch.cat([part[:, :, -1] for part in rows.split(rows.tails_BRD)], dim=1)
            return replace(rows, tails_BRD=finish(block, ends_BCD, attended_BRD))
        mask_HH = _causal(head_q.shape[1], 0, head_q.device)
        head_BHD = finish(block, rows.head_BHD, attend(block, head_q, head_k, head_v, mask_HH))
        tails_BRD = finish(block, rows.tails_BRD, attended_BRD)
        return replace(rows, head_BHD=head_BHD, tails_BRD=tails_BRD)


def _attend_tails(
    block: nn.Module,
    q_BCQD: Tensor,
    k_BCTD: Tensor,
    v_BCTD: Tensor,
    head_k_BHD: Tensor,
    head_v_BHD: Tensor,
) -> Tensor:
    """Attention of tails of one length over their head and themselves: (B, C * Q, D).

    Q is T, or 1 for the end-of-text row, which sees everything and needs no mask.
    """
    heads, (classes, queries) = len(head_k_BHD), q_BCQD.shape[1:3]

    def behind_head(head_BHD: Tensor, tails_BCTD: Tensor) -> Tensor:
        head_BCHD = head_BHD[:, None].expand(-1, classes, -1, -1)
        return torch.cat([head_BCHD, tails_BCTD], dim=2).flatten(0, 1)

    k, v = behind_head(head_k_BHD, k_BCTD), behind_head(head_v_BHD, v_BCTD)
    mask = None if queries == 1 else _causal(queries, head_k_BHD.shape[1], k.device)
    return attend(block, q_BCQD.flatten(0, 1), k, v, mask).view(heads, classes * queries, -1)


def _causal(rows: int, before: int, device: torch.device) -> Tensor:
    """(rows, before + rows): row i sees all `before` and the rows up to itself."""
    return torch.ones(rows, before + rows, dtype=torch.bool, device=device).tril(before)
