"""CoOp, CoCoOp and deep prompts against the same computed without any shortcut."""

import pytest
import torch
import torch.nn.functional as F

from frozen_clip import FrozenCLIP, insert, overwrite, reference
from frozen_clip.prompts import token_counts, tokenize
from tests.frozen_clip.test_frozen_clip import WORDS, assert_same
from trainers import cocoop, coop, ivlp, maple, vpt
from training.method import normalize

MODEL = reference.random_clip(vision_width=128, embed=48, layers=(3, 4))
CLIP = FrozenCLIP(MODEL, "random")
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BEHIND_PATCHES = 1 + 2 * 2


def coop_by_hand(context, position: str) -> torch.Tensor:
    """Text features of full prompts with the context (K, D) or (C, K, D) around the name."""
    count = context.shape[-2]
    ids_CL = tokenize([f"{'X ' * count}{name}." for name in WORDS])
    before = {"end": count, "middle": count // 2, "front": 0}[position]
    rows = []
    for c, length in enumerate(token_counts(WORDS).tolist()):
        own = context[c] if context.dim() == 3 else context
        words = MODEL.token_embedding(ids_CL[c])
        name, rest = words[1 + count : 1 + count + length], words[1 + count + length :]
        rows.append(torch.cat([words[:1], own[:before], name, own[before:], rest]))
    return reference.text(MODEL, ids_CL, {}, words_CLD=torch.stack(rows))


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("init", ["", "a photo of a"])
def test_coop_places_its_context_around_the_name(position, class_specific, init):
    settings = coop.CoOpSettings(
        n_ctx=3, ctx_init=init, csc=class_specific, class_token_position=position
    )
    method = coop.CoOpMethod(settings, CLIP, WORDS)
    with torch.no_grad():
        method.learner.context += 0.1 * torch.randn_like(method.learner.context)
    w = method.text_features()
    assert_same(w, normalize(coop_by_hand(method.learner.context, position)))


def test_cocoop_in_pieces_is_the_same(monkeypatch):
    method = cocoop.CoCoOpMethod(coop.LearnedWords(n_ctx=2), CLIP, WORDS)
    images = torch.randn(5, 3, 32, 32)
    whole = method(images)
    monkeypatch.setattr(cocoop, "MOST_PROMPTS", 2 * len(WORDS) + 1)
    assert_same(method(images), whole)
    assert_same(torch.cat([method(image[None]) for image in images]), whole)


def logits_by_hand(text_edits, vision_edits, ids_CL) -> torch.Tensor:
    w = F.normalize(reference.text(MODEL, ids_CL, text_edits), dim=-1)
    f = F.normalize(reference.vision(MODEL, IMAGES, vision_edits)[:, 0] @ MODEL.visual.proj, dim=-1)
    return MODEL.logit_scale.exp() * f @ w.T


def deep(tokens, first, at):
    """Tokens in the input, by the edit `first`, and afresh before layers 2, 3, ..."""
    later = {layer: overwrite(t, at) for layer, t in enumerate(tokens[1:], start=2)}
    return {0: first(tokens[0], at), **later}


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("words", "count"), [("", 5), ("a photo of a", 2)])
def test_maple_equals_plain(layers, words, count):
    method = maple.MaPLeMethod(maple.MaPLeSettings("fp32", count, words, layers), CLIP, WORDS)
    learner = method.learner
    weight, bias = learner.coupling.weight, learner.coupling.bias
    assert weight.shape == (layers, 128, 64) and (layers < 3 or torch.equal(weight[1], weight[2]))
    vision = [F.linear(t, w, b) for t, w, b in zip(learner.text_tokens, weight, bias, strict=True)]
    text_edits = deep(learner.text_tokens, overwrite, at=1)
    vision_edits = deep(vision, insert, at=BEHIND_PATCHES)
    assert_same(method(IMAGES), logits_by_hand(text_edits, vision_edits, method.prompts.ids_CL))


@pytest.mark.parametrize(("text_layers", "vision_layers"), [(1, 1), (4, 2), (2, 3)])
def test_ivlp_equals_plain(text_layers, vision_layers):
    settings = ivlp.IVLPSettings(
        n_ctx_text=3,
        n_ctx_vision=2,
        prompt_depth_text=text_layers,
        prompt_depth_vision=vision_layers,
    )
    method = ivlp.IVLPMethod(settings, CLIP, WORDS)
    text_edits = deep(method.learner.text_tokens, overwrite, at=1)
    vision_edits = deep(method.learner.vision_tokens, insert, at=BEHIND_PATCHES)
    assert_same(method(IMAGES), logits_by_hand(text_edits, vision_edits, method.prompts.ids_CL))


def test_vpt_equals_plain():
    settings = vpt.VPTSettings(n_ctx_vision=4, prompt_depth_vision=2)
    method = vpt.VPTMethod(settings, CLIP, WORDS)
    vision_edits = deep(method.learner.vision_tokens, insert, at=BEHIND_PATCHES)
    assert_same(method(IMAGES), logits_by_hand({}, vision_edits, method.prompts.ids_CL))
