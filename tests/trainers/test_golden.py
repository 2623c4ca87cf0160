"""The numbers of the published implementations: outputs, loss, gradients, six steps.

Every file of `tests/golden` takes part in the first tests; the rest are what one method has more.
"""

import pytest
import torch

from tests.helpers.golden_files import (
    LOGITS,
    REST,
    Golden,
    assert_close,
    clip,
    golden_names,
    loss_and_gradients,
)
from trainers.zsclip import ZeroshotMethod, ZeroshotSettings
from training.learned_context import MOST_WORDS, Context
from training.method import normalize
from training.templates import IMAGENET_TEMPLATES


def fused(golden: Golden, group: str) -> torch.Tensor:
    """The logits that count for seen classes."""
    name = f"{group}/logits_fusion"
    return golden[name if name in golden.tensors else f"{group}/logits"]


def optimizer_of(golden: Golden, parameters) -> torch.optim.Optimizer:
    how = dict(golden.meta["optimizer"])
    cls = getattr(torch.optim, how.pop("name"))
    for ours in ("schedule", "steps"):
        how.pop(ours)
    return cls(parameters, **how)


@pytest.fixture(params=golden_names())
def case(request):
    """A golden file, and the method with its parameters."""
    golden = Golden(request.param)
    return golden, golden.method()


def test_outputs_and_loss(case):
    golden, method = case
    outputs = method(golden["in/images"])
    assert_close(method.training_logits(outputs), fused(golden, "out"), LOGITS)
    assert_close(loss_and_gradients(method, golden), golden["out/loss"], REST)


def test_token_ids(case):
    """The prompts' ids, whose words the class name may have moved between."""
    golden, method = case
    ours, theirs = method.prompts.ids_CL, golden["in/token_ids"].long()
    assert torch.equal(ours.sort(dim=1).values, theirs.sort(dim=1).values)
    assert torch.equal(ours.argmax(dim=1), theirs.argmax(dim=1))
    if golden.options.get("CLASS_TOKEN_POSITION", "end") == "end":
        assert torch.equal(ours, theirs)


def test_gradients(case):
    """Every gradient of the loss, and no other, is in the file."""
    golden, method = case
    loss_and_gradients(method, golden)
    theirs = golden.ours("grad")
    ours = {name: p.grad for name, p in method.learner.named_parameters()}
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert_close(gradient, theirs[name], REST, name)


def test_six_steps_and_the_evaluation_after_them(case):
    """Each loss, and the parameters afterwards. An evaluation between two steps leaves nothing."""
    golden, method = case
    images, optimizer = golden["in/images"], optimizer_of(golden, method.learner.parameters())
    for expected in golden["traj/losses"]:
        with torch.inference_mode():
            method.classify(images, method.text_features(), seen=True)
        optimizer.zero_grad()
        assert_close(loss_and_gradients(method, golden), expected, REST)
        optimizer.step()
    state = method.learner.state_dict()
    for name, value in golden.ours("after6").items():
        assert_close(state[name], value, REST, name)
    with torch.inference_mode():
        seen, unseen = (method.classify(images, method.text_features(), s) for s in (True, False))
    assert_close(seen, fused(golden, "eval6"), LOGITS)
    assert_close(unseen, golden["eval6/logits"], LOGITS)


# What one method has more


@pytest.mark.parametrize("file", ["mmrl/mmrl_C1.npz", "mmrl/mmrlpp_C1.npz"])
def test_features_and_logits_of_mmrl(file):
    golden = Golden(file)
    method, images = golden.method(), golden["in/images"]
    outputs = method(images)
    assert_close(outputs.logits.class_token, golden["out/logits"], LOGITS)
    assert_close(outputs.logits.representation, golden["out/logits_rep"], LOGITS)
    assert_close(outputs.f, golden["out/image_features"], REST)
    assert_close(outputs.w, golden["out/text_features"], REST)
    assert_close(outputs.f0, golden["out/zs_image_features"], REST)
    assert_close(method.w0, golden["out/zs_text_features"], REST)
    assert_close(normalize(clip().encode_image(images)), golden["out/zs_image_features"], REST)
    assert method.image_features(images)[2] is None  # without the teacher


def test_terms_and_features_of_promptsrc():
    golden = Golden("baselines/promptsrc.npz")
    assert golden.meta["templates"] == list(IMAGENET_TEMPLATES)
    method = golden.method()
    outputs = method(golden["in/images"])
    terms = method.losses(outputs, golden["in/labels"])
    names = {"ce": "ce", "l1_text": "text_l1", "l1_image": "image_l1", "kl": "kl"}
    assert terms.keys() == names.keys()
    for ours, theirs in names.items():
        assert_close(terms[ours], golden[f"out/loss_{theirs}"], REST, ours)
    assert_close(outputs.f, golden["out/image_features"], REST)
    assert_close(outputs.w, golden["out/text_features"], REST)
    assert_close(outputs.f0, golden["out/zs_image_features"], REST)
    assert_close(method.w0, golden["out/zs_text_features"], REST)
    assert_close(outputs.logits0, golden["out/zs_logits"], LOGITS)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("coop_ctxinit", "a photo of a"),
        ("maple_ctxinit", "a photo"),
        ("promptsrc", "a photo of a"),
    ],
)
def test_a_start_from_words_is_their_embedding(file, words):
    """The golden parameters are not the start, but their prompts hold the words."""
    golden = Golden(f"baselines/{file}.npz")
    count = len(words.split())
    assert count <= MOST_WORDS
    start = Context(golden.options["CTX_INIT"], count).start(clip())
    ids = golden["in/token_ids"].long()[0, 1 : 1 + count]
    assert torch.equal(start, clip().text.words(ids))
    assert Context(words).count == count


ZEROSHOT = Golden("baselines/zeroshot.npz")


@pytest.mark.parametrize("job", ZEROSHOT.meta["jobs"])
def test_zero_shot(job):
    golden, how = ZEROSHOT, ZEROSHOT.meta["jobs"][job]
    images = golden["in/images"]
    method = ZeroshotMethod(ZeroshotSettings(), clip(), how["classnames"], how["template"])
    w = method.text_features()
    assert torch.equal(method.prompts.ids_CL, golden[f"in/{job}/token_ids"].long())
    assert_close(w, golden[f"out/{job}/text_features"], REST)
    assert_close(normalize(clip().encode_image(images)), golden["out/image_features"], REST)
    logits = method.classify(images, w, seen=True)
    assert_close(logits, golden[f"out/{job}/logits"], LOGITS)
    assert_close(clip().scale, golden["out/logit_scale_exp"], REST)
