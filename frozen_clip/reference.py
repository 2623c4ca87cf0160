"""The reference implementation: slow, plain versions of what `frozen_clip` and trainers compute.

Every prompt has all its 77 rows plus what is inserted, every layer computes every row, the
teacher is a pass of its own, nothing is cached or shared, as in the methods' published code.
The tests hold the fast version to its numbers, the benchmark to its time and memory.

`PlainCLIP` stands in for a `FrozenCLIP`: a method that is built on it is its own plain version.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from frozen_clip.edits import Edits
from frozen_clip.inside import FROZEN, Inside, Insides, OwnTokens, with_branch
from frozen_clip.model import FrozenCLIP
from frozen_clip.prompts import Prompts
from frozen_clip.text import TextTower
from frozen_clip.vision import VisionTokens, VisionTower


def random_clip(
    seed: int = 0,
    *,
    embed: int = 32,
    image: int = 32,
    patch: int = 16,
    vision_width: int = 64,
    text_width: int = 64,
    layers: tuple[int, int] = (4, 4),
) -> Any:
    """A small `clip.model.CLIP` whose every tensor matters, biases included."""
    from frozen_clip.openai import model as openai

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision = (embed, image, layers[0], vision_width, patch)
        model = openai.CLIP(*vision, 77, 49408, text_width, text_width // 64, layers[1])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name != "logit_scale":
                    parameter.add_(0.05 * torch.randn_like(parameter))
            model.token_embedding.weight *= 10
    return model.eval().requires_grad_(False)


def causal_mask(length: int) -> Tensor:
    """Minus infinity above the diagonal (L, L)."""
    return torch.full((length, length), float("-inf")).triu(1)


def run_block(block: Any, x_NLD: Tensor, mask: Tensor | None, inside: Inside = FROZEN) -> Tensor:
    """One residual block, through torch's own multi-head attention where that can compute it."""
    h = norm(block.ln_1, x_NLD, inside.norms.get("ln_1"))
    if inside.terms:
        attended = attention_with_terms(block.attn, h, mask, inside.terms)
    else:
        y = h.transpose(0, 1)
        attended = block.attn(y, y, y, need_weights=False, attn_mask=mask)[0].transpose(0, 1)
    out = x_NLD + attended
    out = out + block.mlp(norm(block.ln_2, out, inside.norms.get("ln_2")))
    return out if inside.beside is None else out + inside.beside(h)


def norm(ln: Any, x: Tensor, weights: tuple[Tensor, Tensor] | None) -> Tensor:
    """A layer norm, with other weights than its own if they are given."""
    return (
        ln(x)
        if weights is None
        else torch.func.functional_call(ln, {"weight": weights[0], "bias": weights[1]}, (x,))
    )


def attention_with_terms(attn: Any, h_NLD: Tensor, mask: Tensor | None, terms: Any) -> Tensor:
    """Multi-head attention whose projections have a term added."""
    plain = h_NLD @ attn.in_proj_weight.mT + attn.in_proj_bias
    parts = dict(zip("qkv", plain.chunk(3, dim=-1), strict=True))
    parts = {name: t + terms[name](h_NLD) if name in terms else t for name, t in parts.items()}
    q, k, v = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in parts.values())
    scores = q @ k.mT * q.shape[-1] ** -0.5
    weights = (scores if mask is None else scores + mask).softmax(dim=-1)
    attended = (weights @ v).transpose(1, 2).flatten(2)
    out = attended @ attn.out_proj.weight.mT + attn.out_proj.bias
    return out + terms["o"](attended) if "o" in terms else out


def text(
    model: Any,
    ids_CL: Tensor,
    edits: Edits,
    inserted: int = 0,
    words_CLD: Tensor | None = None,
    insides: Insides | None = None,
    own: OwnTokens | None = None,
) -> Tensor:
    """Text features (C, E) of full prompts, not normalized; `words_CLD` instead of the ids'."""
    insides = insides or {}
    x = model.token_embedding(ids_CL).type(model.dtype) if words_CLD is None else words_CLD
    if 0 in edits:
        x = edits[0](x)
    if 0 in insides:
        x = with_branch(x, insides[0])
    x = x + model.positional_embedding.type(model.dtype)
    for layer, block in enumerate(model.transformer.resblocks, start=1):
        if layer in edits:
            x = edits[layer](x)
        if own and layer == own.layer:
            end = own.at + own.tokens_CKD.shape[1]
            x = torch.cat([x[:, : own.at], own.tokens_CKD, x[:, end:]], dim=1)
        mask = causal_mask(x.shape[1]).to(x.device)
        x = run_block(block, x, mask, insides.get(layer, FROZEN))
    ends = ids_CL.argmax(dim=-1) + inserted
    return model.ln_final(x)[torch.arange(len(x)), ends] @ model.text_projection


def vision(model: Any, images: Tensor, edits: Edits, insides: Insides | None = None) -> Tensor:
    """All rows (N, L, D) behind `ln_post`."""
    visual, insides = model.visual, insides or {}
    patches = visual.conv1(images.type(model.dtype)).flatten(2).transpose(1, 2)
    start = visual.class_embedding.to(patches.dtype) + torch.zeros_like(patches[:, :1])
    x = torch.cat([start, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
    if 0 in edits:
        x = edits[0](x)
    x = visual.ln_pre(x)
    if 0 in insides:
        x = with_branch(x, insides[0])
    for layer, block in enumerate(visual.transformer.resblocks, start=1):
        if layer in edits:
            x = edits[layer](x)
        x = run_block(block, x, None, insides.get(layer, FROZEN))
    return visual.ln_post(x)


class PlainCLIP(FrozenCLIP):
    """A `FrozenCLIP` that shares and keeps nothing: each call computes full prompts, all rows."""

    def __init__(self, clip_model: Any, name: str = "plain"):
        super().__init__(clip_model, name)
        self.text = PlainText(clip_model)

    @cached_property
    def vision(self) -> "PlainVision":
        return PlainVision(self.clip.visual, self.clip)


class PlainText(TextTower):
    """The text tower, with all rows of every prompt in every layer."""

    def per_prefix(
        self,
        prompts: Prompts,
        edits: Edits,
        suffix_words: Tensor | None = None,
        insides: Insides | None = None,
        own: OwnTokens | None = None,
    ) -> Tensor:
        """(B, C, E); for B prefixes class by class, since an edit makes B sequences of one."""
        inserted = self._inserted(edits)
        words_CLD = self.words(prompts.ids_CL)
        if suffix_words is not None:
            words_CLD = with_suffixes(words_CLD, prompts, suffix_words)
        if self._prefixes(edits, words_CLD) > 1:
            one_by_one = zip(prompts.ids_CL, words_CLD, strict=True)
            features = [
                text(self.clip, ids[None], edits, inserted, words[None])
                for ids, words in one_by_one
            ]
            return torch.stack(features, dim=1)
        return text(self.clip, prompts.ids_CL, edits, inserted, words_CLD, insides, own)[None]

    def _inserted(self, edits: Edits) -> int:
        """How many rows the edits insert."""
        x = torch.zeros(
            1, 77, self.width, dtype=self.clip.dtype, device=self.clip.logit_scale.device
        )
        before = x.shape[1]
        for layer in sorted(edits):
            x = edits[layer](x).detach()
        return x.shape[1] - before

    def _prefixes(self, edits: Edits, words_CLD: Tensor) -> int:
        return max([1, *(len(edit(words_CLD[:1])) for edit in edits.values())])


def with_suffixes(words_CLD: Tensor, prompts: Prompts, suffix_words: Tensor) -> Tensor:
    """Word embeddings of full prompts with those of their suffixes replaced."""
    first, rows = len(prompts.prefix_P), []
    for ids_CT in prompts.suffixes:
        count, length = ids_CT.shape
        own, suffix_words = suffix_words.split([count * length, len(suffix_words) - count * length])
        rows += list(own.unflatten(0, (count, length)))
    full = [
        torch.cat([words[:first], rows[place], words[first + len(rows[place]) :]])
        for words, place in zip(words_CLD, prompts.place_C.tolist(), strict=True)
    ]
    return torch.stack(full)


class PlainVision(VisionTower):
    """The vision tower, with all rows in every layer, and a pass of its own for `plain`."""

    def __init__(self, visual: Any, model: Any):
        super().__init__(visual)
        self.model = model

    def __call__(
        self,
        images: Tensor,
        edits: Edits | None = None,
        rows: int = 1,
        plain: bool = False,
        insides: Insides | None = None,
    ) -> VisionTokens:
        edited = vision(self.model, images, edits or {}, insides)[:, :rows]
        if not plain:
            return VisionTokens(edited, None)
        with torch.no_grad():
            return VisionTokens(edited, vision(self.model, images, {})[:, :1])
