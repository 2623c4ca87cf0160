"""Changes inside the layers: the shared prefix stays exact, and so do gradients."""

import pytest
import torch

from frozen_clip import FrozenCLIP, Inside, OwnTokens, overwrite, reference
from frozen_clip import prompts as prompting
from tests.frozen_clip.test_frozen_clip import assert_same

MODEL = reference.random_clip(vision_width=128, embed=48, layers=(3, 4))
FAST, PLAIN = FrozenCLIP(MODEL, "random"), reference.PlainCLIP(MODEL)
PROMPTS = FAST.prompts(["cat", "a very long name", "dog house", "blue"], "a photo of one {} here.")
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def insides(width: int, layers, learned: list) -> dict[int, Inside]:
    """All that can be changed, in these layers; every tensor of it is appended to `learned`."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        learned.append((0.1 * torch.randn(*shape, generator=generator)).requires_grad_())
        return learned[-1]

    def linear():
        weight = random(width, width)
        return lambda x: x @ weight

    def layer(number):
        if number == 0:
            return Inside(beside=linear())
        norms = {name: (1 + random(width), random(width)) for name in ("ln_1", "ln_2")}
        return Inside(norms, {name: linear() for name in "qkvo"}, linear())

    return {number: layer(number) for number in layers}


def numbers(features, learned):
    weights = torch.linspace(-1, 1, features.numel()).view_as(features)
    return features, torch.autograd.grad((weights * features).sum(), learned)


LAYERS = [(0, 1, 2, 3, 4), (3,), (2, 4), (4,)]


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("own", [None, 1, 3, 4])
def test_text(layers, context, own):
    found = []
    for clip in (FAST, PLAIN):
        learned = []
        changes = insides(64, layers, learned)
        tokens = torch.randn(5, 4, 64, generator=torch.Generator().manual_seed(2)).requires_grad_()
        learned += [tokens]
        edits = {0: overwrite(tokens[4])} if context else {}
        extra = OwnTokens(own, tokens[:4]) if own else None
        used = learned if context or own else learned[:-1]
        w = clip.text(PROMPTS, edits, insides=changes, own=extra)
        found.append(numbers(w, used))
    assert_same(found[0][0], found[1][0])
    for ours, plain in zip(found[0][1], found[1][1], strict=True):
        assert (ours - plain).abs().max() <= 1e-5 * max(1, plain.abs().max())


def test_prompts_that_share_nothing():
    changes = insides(64, (0, 2), [])
    alone = prompting.build(PROMPTS.ids_CL, longest_prefix=0)
    assert len(alone.prefix_P) == 0
    assert_same(FAST.text(alone, insides=changes), PLAIN.text(PROMPTS, insides=changes))


@pytest.mark.parametrize("layers", [(0, 1, 2, 3), (2,), (3,)])
def test_vision(layers):
    found = []
    for clip in (FAST, PLAIN):
        learned = []
        tokens = clip.vision(IMAGES, insides=insides(128, layers, learned), rows=2, plain=True)
        assert_same(tokens.plain, FAST.vision(IMAGES).edited)
        found.append(numbers(tokens.edited, learned))
    assert_same(found[0][0], found[1][0])
    for ours, plain in zip(found[0][1], found[1][1], strict=True):
        assert (ours - plain).abs().max() <= 1e-5 * max(1, plain.abs().max())


def test_more_rows_than_a_backward_pass_keeps(monkeypatch):
    """Parts are recomputed with the random numbers of the first time."""
    monkeypatch.setattr("frozen_clip.text.MOST_ROWS", 12)
    scale = torch.ones(64, requires_grad=True)

    def dropped(x):
        return torch.nn.functional.dropout(x * scale, 0.5)

    torch.manual_seed(0)
    w = FAST.text(PROMPTS, insides={4: Inside(beside=dropped)})
    gradient = torch.autograd.grad(w.square().sum(), scale)[0].detach()
    numeric = []
    for sign in (1, -1):
        torch.manual_seed(0)
        with torch.no_grad():
            scale[0] += sign * 1e-2
            numeric.append(FAST.text(PROMPTS, insides={4: Inside(beside=dropped)}).square().sum())
            scale[0] -= sign * 1e-2
    slope = (numeric[0] - numeric[1]).item() / 2e-2
    assert slope == pytest.approx(gradient[0].item(), rel=0.05, abs=1e-2)
