"""The towers against the plain version, and what cannot happen to a frozen CLIP."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozen_clip import FrozenCLIP, blend, insert, overwrite, properties, reference, text
from frozen_clip.weights.load import cast_matmul_weights

WORDS = [
    "cat",
    "dog",
    "great white shark",
    "hammerhead",
    "a",
    "very old and small red house",
]
TEMPLATES = ["a photo of a {}.", "{} texture.", "{}", "a photo of a {}, a type of pet."]
MODEL = reference.random_clip()
CLIP = FrozenCLIP(MODEL, "random")


@st.composite
def edited(draw):
    """Layers with gaps, any K, replacing or blending, any list of names."""
    layers = draw(st.sets(st.integers(1, 4), min_size=1).map(sorted))
    k = draw(st.integers(1, 8))
    beta = draw(st.sampled_from([None, 0.3, 1.0]))
    names = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6))
    names.append(" ".join(["cat"] * draw(st.integers(1, 30))))
    return layers, k, beta, names, draw(st.sampled_from(TEMPLATES)), draw(st.integers(0, 99))


def make_edits(layers, tokens_JKD, beta):
    rule = overwrite if beta is None else lambda tokens: blend(tokens, beta)
    return {
        layer: insert(tokens) if layer == layers[0] else rule(tokens)
        for layer, tokens in zip(layers, tokens_JKD, strict=True)
    }


def gradients(features, tokens_JKD):
    probe = torch.linspace(-1, 1, features.numel()).view_as(features)
    return torch.autograd.grad((features * probe).sum(), tokens_JKD)[0]


def assert_same(fast, slow, tolerance=2e-5):
    scale = slow.abs().max().clamp(min=1)
    assert fast.shape == slow.shape
    assert (fast - slow).abs().max() / scale < tolerance


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edited())
def test_text_equals_plain(case):
    layers, k, beta, names, template, seed = case
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(len(layers), k, 64, generator=generator, requires_grad=True)
    prompts = CLIP.prompts(names, template)
    edits = make_edits(layers, tokens, beta)
    fast = CLIP.text(prompts, edits)
    slow = reference.text(MODEL, prompts.ids_CL, edits, inserted=k)
    assert_same(fast, slow)
    assert_same(gradients(fast, tokens), gradients(slow, tokens))


@pytest.mark.parametrize("most_rows", [1, 7, 20])
@pytest.mark.parametrize("first", [1, 3])
def test_many_classes_run_in_parts_with_the_same_gradients(most_rows, first, monkeypatch):
    names, k = [*WORDS, "cat", "dog"], 3
    tokens = torch.randn(2, k, 64, requires_grad=True)
    edits = make_edits([first, 4], tokens, beta=0.5)
    whole = CLIP.text(CLIP.prompts(names, "a {}."), edits)
    monkeypatch.setattr(text, "MOST_ROWS", most_rows)
    prompts = CLIP.prompts(names, "a {}.")
    parts = CLIP.text(prompts, edits)
    assert_same(parts, whole)
    assert_same(parts, reference.text(MODEL, prompts.ids_CL, edits, inserted=k))
    assert_same(gradients(parts, tokens), gradients(whole, tokens))
    assert_same(CLIP.encode_text(prompts), reference.text(MODEL, prompts.ids_CL, {}))


@settings(max_examples=25, deadline=None)
@given(edited())
def test_vision_equals_plain(case):
    layers, k, beta, _, _, seed = case
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(len(layers), k, 64, generator=generator, requires_grad=True)
    images = torch.randn(3, 3, 32, 32, generator=generator)
    edits = make_edits(layers, tokens, beta)
    fast = CLIP.vision(images, edits, rows=1 + k, plain=True)
    slow = reference.vision(MODEL, images, edits)[:, : 1 + k]
    assert_same(fast.edited, slow)
    assert_same(fast.plain, reference.vision(MODEL, images, {})[:, :1])
    assert_same(gradients(fast.edited, tokens), gradients(slow, tokens))


def test_other_activations_and_heads_equal_plain():
    """GELU instead of QuickGELU, and more and narrower heads, as many in no two towers."""
    model = reference.random_clip()
    properties.apply(model, "gelu", (2, 4))
    clip = FrozenCLIP(model, "random")
    assert (clip.origin["activation"], clip.origin["heads"]) == ("gelu", {"vision": 2, "text": 4})
    tokens = torch.randn(2, 3, 64, requires_grad=True)
    images, prompts = torch.randn(2, 3, 32, 32), clip.prompts(WORDS, "a photo of a {}.")
    edits = make_edits([2, 3], tokens, beta=0.3)
    fast, slow = clip.text(prompts, edits), reference.text(model, prompts.ids_CL, edits, inserted=3)
    assert_same(fast, slow)
    assert_same(gradients(fast, tokens), gradients(slow, tokens))
    assert not torch.allclose(fast, CLIP.text(prompts, edits), atol=1e-3)
    fast, slow = clip.vision(images, edits).edited, reference.vision(model, images, edits)[:, :1]
    assert_same(fast, slow)
    assert_same(gradients(fast, tokens), gradients(slow, tokens))
    assert not torch.allclose(fast, CLIP.vision(images, edits).edited, atol=1e-3)


def test_vision_edit_of_the_input_runs_before_ln_pre():
    """Tokens that join at the end of the input, as MaPLe's do, and are then replaced."""
    tokens = torch.randn(2, 3, 64, requires_grad=True)
    edits = {0: insert(tokens[0], at=5), 1: overwrite(tokens[1], at=5)}
    images = torch.randn(2, 3, 32, 32)
    fast = CLIP.vision(images, edits, plain=True)
    assert_same(fast.edited, reference.vision(MODEL, images, edits)[:, :1])
    assert_same(fast.plain, reference.vision(MODEL, images, {})[:, :1])


@pytest.mark.parametrize("names", [["cat"], ["cat", "dog", "great white shark", "cat"]])
def test_zero_shot_equals_openai(names):
    prompts, images = CLIP.prompts(names, "a photo of a {}."), torch.randn(2, 3, 32, 32)
    assert_same(CLIP.encode_text(prompts), MODEL_FULL.encode_text(prompts.ids_CL))
    assert_same(CLIP.encode_image(images), MODEL_FULL.encode_image(images))


MODEL_FULL = reference.random_clip()


@pytest.mark.parametrize("first", [1, 3])
def test_text_state_below_the_first_edit_is_made_once_and_stays_right(first):
    """After an evaluation in inference mode and under autocast, training still equals plain."""
    prompts = CLIP.prompts(["cat", "great white shark"], "a photo of a {}.")
    tokens = torch.randn(1, 2, 64, requires_grad=True)
    edits = {first: insert(tokens[0])}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        CLIP.text(prompts, edits)
    with torch.inference_mode():
        CLIP.text(prompts, edits)
    for _ in range(2):
        fast = CLIP.text(prompts, edits)
        slow = reference.text(MODEL, prompts.ids_CL, edits, inserted=2)
        assert_same(fast, slow)
        assert_same(gradients(fast, tokens), gradients(slow, tokens))


def test_under_autocast_inserted_tokens_promote_the_stream():
    """bfloat16 patches and float32 tokens make a float32 stream, as the published code has it."""
    seen = {}

    def spy(x):
        seen["above"] = x.dtype
        return x

    tokens, images = torch.randn(2, 64), torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        fast = CLIP.vision(images, {2: insert(tokens), 3: spy}, rows=3).edited
        slow = reference.vision(MODEL, images, {2: insert(tokens), 3: spy})[:, :3]
    assert seen["above"] == torch.float32
    assert_same(fast.float(), slow.float(), tolerance=2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", properties.ACTIVATIONS)
def test_weights_converted_once_give_the_same_bits_under_autocast(dtype, activation):
    once, at_each_use = (FrozenCLIP(reference.random_clip(), "random") for _ in range(2))
    for clip in (once, at_each_use):
        properties.apply(clip.clip, activation, (1, 1))
    cast_matmul_weights(once.clip, dtype)
    assert once.dtype == torch.float32 and once.clip.visual.conv1.weight.dtype == torch.float32
    assert once.clip.transformer.resblocks[0].mlp.c_fc.weight.dtype == dtype
    tokens, images = torch.randn(2, 3, 64, requires_grad=True), torch.randn(2, 3, 32, 32)

    def results(clip):
        prompts = clip.prompts(WORDS, "a photo of a {}.")
        edits = make_edits([2, 3], tokens, beta=0.3)
        with torch.autocast("cpu", dtype):
            w, v = clip.text(prompts, edits), clip.vision(images, edits, rows=4, plain=True)
            f = v.edited @ (clip.vision_projection + 0.1 * tokens[0].mT @ tokens[0, :, :32])
        return [w, f, v.plain, gradients(w, tokens), gradients(f, tokens)]

    assert all(map(torch.equal, results(once), results(at_each_use)))


def test_is_always_in_eval_mode_and_frozen():
    clip = FrozenCLIP(reference.random_clip(), "random")
    assert not clip.train().training and not any(m.training for m in clip.modules())
    assert not any(p.requires_grad for p in clip.parameters())
    with pytest.raises(ValueError, match="stays frozen"):
        clip.requires_grad_(True)


def test_resnet_encodes_but_refuses_edits():
    from clip.model import CLIP as OpenAIModel

    model = OpenAIModel(32, 64, (1, 1, 1, 1), 16, None, 77, 49408, 64, 1, 2).eval()
    clip = FrozenCLIP(model, "RN-tiny")
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(clip.encode_image(images), model.encode_image(images))
    assert clip.encode_text(clip.prompts(["cat"], "a {}.")).shape == (1, 32)
    clip.train()
    assert not any(m.training for m in clip.modules())
    with pytest.raises(ValueError, match=r"ResNet CLIP.*ViT-B/16"):
        _ = clip.vision


@pytest.mark.parametrize(
    ("names", "template", "message"),
    [
        ([], "a {}.", "at least one"),
        (["cat", " "], "a {}.", "number 1 is empty"),
        (["cat"], "a photo.", "must hold"),
        (["cat"], "{} and {}", "must hold"),
        (["cat", "very " * 80], "a photo of a {}.", r"has \d+ tokens, CLIP reads at most 77"),
    ],
)
def test_bad_prompts(names, template, message):
    with pytest.raises(ValueError, match=message):
        CLIP.prompts(names, template)


def test_prefix_and_suffixes_put_together_are_the_prompt():
    prompts = CLIP.prompts(["dog", "great_white_shark", "cat"], "a photo of a {}.")
    rows = [row for group in prompts.suffixes for row in group]
    for c, place in enumerate(prompts.place_C):
        ids = torch.cat([prompts.prefix_P, rows[place]])
        assert torch.equal(ids, prompts.ids_CL[c, : len(ids)])
        assert not prompts.ids_CL[c, len(ids) :].any()
    assert prompts.prefix_P.tolist()[0] == 49406
