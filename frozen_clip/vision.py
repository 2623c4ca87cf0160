"""The vision tower: CLIP's frozen ViT, driven layer by layer with edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from frozen_clip.blocks import attend, output_and_mlp, queries_keys_values
from frozen_clip.edits import Edits
from frozen_clip.inside import FROZEN, Insides, with_branch

if TYPE_CHECKING:
    from clip.model import VisionTransformer


class VisionTokens(NamedTuple):
    """Output tokens after `ln_post`, for the rows that were asked for."""

    edited: Tensor  # (N, rows, D)
    plain: Tensor | None  # (N, 1, D): the class token of the tower without edits


class VisionTower:
    """Drives the `VisionTransformer` of a CLIP, whose weights it shares.

    A sequence is `[class, patches]`, of `length` rows, plus what edits insert. `layers` counts
    the blocks, `width` is their D. Layer 0 is the input, in front of `ln_pre`.
    """

    def __init__(self, visual: VisionTransformer):
        self.visual = visual
        self.blocks = visual.transformer.resblocks
        self.layers = len(self.blocks)
        self.width = visual.conv1.out_channels
        self.length = len(visual.positional_embedding)

    def __call__(
        self,
        images: Tensor,
        edits: Edits | None = None,
        rows: int = 1,
        plain: bool = False,
        insides: Insides | None = None,
    ) -> VisionTokens:
        """Normalized images (N, 3, H, W) -> the first `rows` rows behind the last layer.

        With `plain`, the class token of the unedited tower comes along: the layers below
        the first change run once for both. Only what a change can reach records a graph.
        """
        edits, insides = edits or {}, insides or {}
        first = min([*edits, *insides], default=self.layers + 1)
        below, above = range(first), range(first, self.layers + 1)
        with torch.no_grad():
            x = self._run(self._embed(images), {}, {}, below, rows)
            plain_N1D = self._run(x, {}, {}, above, rows=1)[:, :1] if plain else None
        edited_NRD = self._run(x, edits, insides, above, rows)[:, :rows]
        post = self.visual.ln_post
        return VisionTokens(post(edited_NRD), post(plain_N1D) if plain else None)

    def _embed(self, images: Tensor) -> Tensor:
        """Patches behind the class token, plus positions: (N, 1 + patches, D)."""
        visual = self.visual
        patches_NLD = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).mT
        dtype = patches_NLD.dtype
        class_N1D = visual.class_embedding.to(dtype).expand(images.shape[0], 1, -1)
        x_NLD = torch.cat([class_N1D, patches_NLD], dim=1)
        return x_NLD + visual.positional_embedding.to(dtype)

    def _run(
        self, x_NLD: Tensor, edits: Edits, insides: Insides, layers: range, rows: int
    ) -> Tensor:
        """Some layers in order; the last one of the tower gives its first `rows` rows only."""
        for layer in layers:
            if layer in edits:
                x_NLD = edits[layer](x_NLD)
            if layer == 0:
                x_NLD = self.visual.ln_pre(x_NLD)
                x_NLD = with_branch(x_NLD, insides.get(0, FROZEN))
                continue
            block, inside = self.blocks[layer - 1], insides.get(layer, FROZEN)
            q, k, v = queries_keys_values(block, x_NLD, inside)
            if layer == self.layers:
                x_NLD, q = x_NLD[:, :rows], q[:, :rows]
            x_NLD = output_and_mlp(block, x_NLD, attend(block, q, k, v), inside)
        return x_NLD
