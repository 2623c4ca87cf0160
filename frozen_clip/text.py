"""The text tower: CLIP's frozen causal transformer over one head and many tails.

All prompts share a head (see `prompts`), and edits only touch the head. A causal tower
gives the head's rows the same state whatever follows, so they are computed once; each
class computes its own tail, which attends to the head's keys and values. The result,
and every gradient, equals running each full prompt by itself.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from frozen_clip.blocks import attend, finish, queries_keys_values
from frozen_clip.edits import Edits
from frozen_clip.prompts import Prompts


@dataclass(frozen=True)
class _Rows:
    """The state of all prompts between two layers.

    head_1HD: the shared rows. tails_RD: the rows of all classes, one class after another,
    shortest tails first. groups: (classes, tail length) of each run of equal tails.
    """

    head_1HD: Tensor
    tails_RD: Tensor
    groups: tuple[tuple[int, int], ...]

    def split(self, rows_RD: Tensor) -> list[Tensor]:
        """Rows of the tails as one tensor (C_g, T_g, D) per group."""
        parts = rows_RD.split([count * length for count, length in self.groups])
        return [p.unflatten(0, g) for p, g in zip(parts, self.groups, strict=True)]


class TextTower:
    """Drives the text half of a `clip.model.CLIP`, whose weights it shares.

    `layers` counts the blocks, `width` is their D.
    """

    def __init__(self, clip_model: nn.Module):
        self.clip = clip_model
        self.blocks = clip_model.transformer.resblocks
        self.layers = len(self.blocks)
        self.width = clip_model.ln_final.weight.shape[0]
        self._constant: WeakKeyDictionary[Prompts, dict] = WeakKeyDictionary()

    def __call__(self, prompts: Prompts, edits: Edits | None = None) -> Tensor:
        """Features (C, E) of the end-of-text rows, projected and not normalised."""
        edits = edits or {}
        first = min(edits, default=self.layers + 1)
        rows = self._below(prompts, first)
        for layer in range(first, self.layers + 1):
            if layer in edits:
                rows = _Rows(edits[layer](rows.head_1HD), rows.tails_RD, rows.groups)
            rows = self._layer(layer, rows)
        features_CE = self.clip.ln_final(rows.tails_RD) @ self.clip.text_projection
        return features_CE[prompts.place_C]

    def _below(self, prompts: Prompts, first: int) -> _Rows:
        """The state in front of layer `first`: a constant of the prompts, computed once."""
        known = self._constant.setdefault(prompts, {})
        key = (first, self._precision())
        if key not in known:
            # Made as ordinary tensors even during inference, since training may use them.
            with torch.inference_mode(False), torch.no_grad():
                rows = self._embed(prompts)
                for layer in range(1, first):
                    rows = self._layer(layer, rows)
            known[key] = rows
        return known[key]

    def _precision(self) -> tuple:
        weight = self.clip.text_projection
        kind = weight.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return weight.device, weight.dtype, autocast

    def _embed(self, prompts: Prompts) -> _Rows:
        """Word and position embeddings of the head and of the tails."""
        embedding, dtype = self.clip.token_embedding, self.clip.dtype
        positions_LD = self.clip.positional_embedding.to(dtype)
        head = len(prompts.head_H)
        head_1HD = embedding(prompts.head_H)[None].to(dtype) + positions_LD[:head]
        tails = [
            embedding(ids_CT).to(dtype) + positions_LD[head : head + ids_CT.shape[1]]
            for ids_CT in prompts.tails
        ]
        groups = tuple((t.shape[0], t.shape[1]) for t in tails)
        return _Rows(head_1HD, torch.cat([t.flatten(0, 1) for t in tails]), groups)

    def _layer(self, layer: int, rows: _Rows) -> _Rows:
        """One block; the tower's last one gives the end-of-text row of each class only."""
        block = self.blocks[layer - 1]
        last = layer == self.layers
        head_q, head_k, head_v = queries_keys_values(block, rows.head_1HD)
        q_RD, k_RD, v_RD = queries_keys_values(block, rows.tails_RD)
        attended = [
            self._tails(block, q[:, -1:] if last else q, k, v, head_k, head_v)
            for q, k, v in zip(rows.split(q_RD), rows.split(k_RD), rows.split(v_RD), strict=True)
        ]
        attended_RD = torch.cat([a.flatten(0, 1) for a in attended])
        if last:
            ends_CD = torch.cat([x[:, -1] for x in rows.split(rows.tails_RD)])
            return _Rows(rows.head_1HD, finish(block, ends_CD, attended_RD), ())
        mask_HH = _causal(head_q.shape[1], 0, head_q.device)
        head = finish(block, rows.head_1HD, attend(block, head_q, head_k, head_v, mask_HH))
        return _Rows(head, finish(block, rows.tails_RD, attended_RD), rows.groups)

    @staticmethod
    def _tails(block, q_CQD, k_CTD, v_CTD, head_k_1HD, head_v_1HD) -> Tensor:
        """Attention of tails of one length over the head and themselves: (C, Q, D)."""
        classes = len(q_CQD)
        k = torch.cat([head_k_1HD.expand(classes, -1, -1), k_CTD], dim=1)
        v = torch.cat([head_v_1HD.expand(classes, -1, -1), v_CTD], dim=1)
        rows = q_CQD.shape[1]
        # The last row sees everything: a single end-of-text row needs no mask.
        mask = None if rows == 1 else _causal(rows, head_k_1HD.shape[1], k.device)
        return attend(block, q_CQD, k, v, mask)


def _causal(rows: int, before: int, device: torch.device) -> Tensor:
    """(rows, before + rows): row i sees all `before` and the rows up to itself."""
    return torch.ones(rows, before + rows, dtype=torch.bool, device=device).tril(before)
