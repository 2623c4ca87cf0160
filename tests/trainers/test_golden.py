"""The numbers of the published implementations: outputs, loss, gradients, six steps."""

import pytest
import torch

from tests.helpers.golden_files import (
    LOGITS,
    REST,
    Golden,
    assert_close,
    check_gradients,
    check_steps,
    clip,
    total_loss,
)
from trainers import mmrl, mmrl_plus
from training.method import normalize


def build_mmrl(golden: Golden):
    meta = golden.meta
    prompts = clip().prompts(meta["classnames"], meta["template"])
    learner = mmrl.RepresentationLearner(
        clip(), len(meta["rep_layers"]), meta["n_rep_tokens"], meta["rep_dim"]
    )
    settings = meta["rep_layers"], meta["alpha"], meta["reg_weight"]
    return mmrl.MMRLMethod(clip(), prompts, learner, *settings), mmrl.from_public


def build_mmrl_plus(golden: Golden):
    meta = golden.meta
    prompts = clip().prompts(meta["classnames"], meta["template"])
    learner = mmrl_plus.SharedRepresentationLearner(
        clip(),
        len(meta["rep_layers"]),
        meta["n_rep_tokens"],
        meta["rep_dim"],
        res_rank=meta["res_lora_dim"],
        proj_rank=meta["proj_lora_dim"],
    )
    settings = meta["rep_layers"], meta["alpha"], meta["reg_weight"]
    method = mmrl_plus.MMRLPlusMethod(clip(), prompts, learner, *settings, beta=meta["beta"])
    return method, mmrl_plus.from_public


@pytest.fixture(params=["mmrl", "mmrlpp"])
def case(request):
    """A golden file, the method loaded with its parameters, and the renaming of its tensors."""
    golden = Golden(f"mmrl/{request.param}_C1.npz")
    method, from_public = {"mmrl": build_mmrl, "mmrlpp": build_mmrl_plus}[request.param](golden)
    method.learner.load_state_dict(from_public(golden.group("param")))
    return golden, method, from_public


def test_token_ids(case):
    golden, method, _ = case
    assert torch.equal(method.prompts.ids_CL, golden["in/token_ids"].long())


def test_outputs_and_loss(case):
    golden, method, _ = case
    outputs = method(golden["in/images"])
    assert_close(outputs.logits.class_token, golden["out/logits"], LOGITS)
    assert_close(outputs.logits.representation, golden["out/logits_rep"], LOGITS)
    assert_close(outputs.logits.fused, golden["out/logits_fusion"], LOGITS)
    assert_close(outputs.f, golden["out/image_features"], REST)
    assert_close(outputs.w, golden["out/text_features"], REST)
    assert_close(outputs.f0, golden["out/zs_image_features"], REST)
    assert_close(method.w0, golden["out/zs_text_features"], REST)
    assert_close(total_loss(method, golden), golden["out/loss"], REST)


def test_gradients(case):
    golden, method, from_public = case
    check_gradients(method, golden, from_public)


def test_six_steps_and_the_evaluation_after_them(case):
    golden, method, from_public = case
    how = golden.meta["optimizer"]
    optimizer = torch.optim.AdamW(
        method.learner.parameters(),
        lr=how["lr"],
        weight_decay=how["weight_decay"],
        betas=how["betas"],
        eps=how["eps"],
    )
    check_steps(method, golden, from_public, optimizer)
    check_evaluation(golden, method)


@torch.inference_mode()
def check_evaluation(golden: Golden, method):
    w = method.text_features()
    f, f_r, f0 = method.image_features(golden["in/images"])
    logits = method.logits(f, f_r, w)
    assert f0 is None
    assert_close(w, golden["eval6/text_features"], REST)
    assert_close(f, golden["eval6/image_features"], REST)
    assert_close(logits.class_token, golden["eval6/logits"], LOGITS)
    assert_close(logits.representation, golden["eval6/logits_rep"], LOGITS)
    assert_close(logits.fused, golden["eval6/logits_fusion"], LOGITS)
    seen = method.classify(golden["in/images"], w, seen=True)
    unseen = method.classify(golden["in/images"], w, seen=False)
    assert_close(seen, golden["eval6/logits_fusion"], LOGITS)
    assert_close(unseen, golden["eval6/logits"], LOGITS)


def test_zero_shot_features_are_normalised_features_of_the_frozen_clip(case):
    golden, _, _ = case
    f0 = normalize(clip().encode_image(golden["in/images"]))
    assert_close(f0, golden["out/zs_image_features"], REST)
