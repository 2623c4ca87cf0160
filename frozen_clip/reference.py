"""The reference implementation: slow, plain versions of what `frozen_clip` and trainers compute.

Every prompt has all its 77 rows plus what is inserted, every layer computes every row, the
teacher is a pass of its own, nothing is cached or shared, as in the methods' published code.
The tests hold the fast version to its numbers, the benchmark to its time and memory.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from frozen_clip import Edits


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


def run_block(block: Any, x_NLD: Tensor, mask: Tensor | None) -> Tensor:
    """One residual block through torch's own multi-head attention."""
    y = block.ln_1(x_NLD).transpose(0, 1)
    attended = block.attn(y, y, y, need_weights=False, attn_mask=mask)[0].transpose(0, 1)
    x_NLD = x_NLD + attended
    return x_NLD + block.mlp(block.ln_2(x_NLD))


def text(
    model: Any, ids_CL: Tensor, edits: Edits, inserted: int = 0, words_CLD: Tensor | None = None
) -> Tensor:
    """Text features (C, E) of full prompts, not normalized; `words_CLD` instead of the ids'."""
    x = model.token_embedding(ids_CL).type(model.dtype) if words_CLD is None else words_CLD
    if 0 in edits:
        x = edits[0](x)
    x = x + model.positional_embedding.type(model.dtype)
    for layer, block in enumerate(model.transformer.resblocks, start=1):
        if layer in edits:
            x = edits[layer](x)
        x = run_block(block, x, causal_mask(x.shape[1]).to(x.device))
    ends = ids_CL.argmax(dim=-1) + inserted
    return model.ln_final(x)[torch.arange(len(x)), ends] @ model.text_projection


def vision(model: Any, images: Tensor, edits: Edits) -> Tensor:
    """All rows (N, L, D) behind `ln_post`."""
    visual = model.visual
    patches = visual.conv1(images.type(model.dtype)).flatten(2).transpose(1, 2)
    start = visual.class_embedding.to(patches.dtype) + torch.zeros_like(patches[:, :1])
    x = torch.cat([start, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
    if 0 in edits:
        x = edits[0](x)
    x = visual.ln_pre(x)
    for layer, block in enumerate(visual.transformer.resblocks, start=1):
        if layer in edits:
            x = edits[layer](x)
        x = run_block(block, x, None)
    return visual.ln_post(x)


def features(
    model: Any, images: Tensor, edits: Edits, k: int, projection: Tensor
) -> tuple[Tensor, Tensor]:
    """f and f_r of MMRL and MMRL++; each (N, E), normalized."""
    rows = vision(model, images, edits)
    f = F.normalize(rows[:, 0] @ model.visual.proj, dim=-1)
    return f, F.normalize(rows[:, 1 : 1 + k].mean(dim=1) @ projection, dim=-1)


def mmrl_loss(method: Any, images: Tensor, labels: Tensor) -> Tensor:
    """The loss of an `MMRLMethod` or `MMRLPlusMethod`, written out."""
    model, learner, ids_CL = method.clip.clip, method.learner, method.prompts.ids_CL
    k = len(learner.rep_tokens)
    text_edits = method.edits(learner.text_aligner(learner.rep_tokens), method.clip.text)
    vision_edits = method.edits(learner.vision_aligner(learner.rep_tokens), method.clip.vision)
    w = F.normalize(text(model, ids_CL, text_edits, inserted=k), dim=-1)
    f, f_r = features(model, images, vision_edits, k, method.rep_projection())
    with torch.no_grad():
        f0 = F.normalize(vision(model, images, {})[:, 0] @ model.visual.proj, dim=-1)
    alpha, reg_weight = method.settings.alpha, method.settings.reg_weight
    loss = alpha * F.cross_entropy(100 * f @ w.T, labels)
    loss = loss + (1 - alpha) * F.cross_entropy(100 * f_r @ w.T, labels)
    loss = loss + reg_weight * (1 - F.cosine_similarity(f, f0).mean())
    return loss + reg_weight * (1 - F.cosine_similarity(w, method.w0).mean())
