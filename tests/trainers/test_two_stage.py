"""TwoStage: the published numbers of both stages, one optimizer as two, the change, class names."""

from itertools import pairwise

import pytest
import torch

from frozen_clip import FrozenCLIP, reference
from tests.helpers.golden_files import LOGITS, REST, Golden, assert_close, clip
from tests.helpers.toy_run import CLASSES, build, classify, command, refused, state_of
from tools.convert_checkpoint import convert
from tools.predict import load
from trainers.two_stage import TwoStage, TwoStageMethod, TwoStageSettings
from training.checkpoints import load_learner
from training.class_bound import encode
from training.method import normalize
from training.published import KeyMap, published

NODE = "TRAINER.TWOSTAGE"
MAP = published(TwoStage)
NORMS = KeyMap({name: t for name, t in MAP.maps[0].tensors.items() if t.stacked})
CLIP = reference.random_clip(vision_width=128, embed=48, layers=(3, 4))
NAMES = ["cat", "a very long name", "dog house"]


@pytest.fixture(scope="module")
def golden():
    return Golden("fits/two_stage.npz")


def golden_method(golden):
    method = TwoStageMethod(golden.settings(), clip(), golden.meta["classnames"])
    method.learner.load_state_dict(NORMS.from_published(golden.group("param")), strict=False)
    return method


# The published numbers


def test_both_stages(golden):
    """Of one AdamW, where the published code makes one for each stage."""
    method, images, labels = golden_method(golden), golden["in/images"], golden["in/labels"]
    learner = method.learner
    assert torch.equal(method.prompts.ids_CL, golden["in/token_ids"].long())
    optimizer = torch.optim.AdamW(learner.parameters(), weight_decay=0.01)

    def step(rate, loss_then):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        logits = method(images)
        terms = method.losses(logits, labels)
        assert_close(method.backward(terms, lambda loss: loss).double(), loss_then.double(), REST)
        gradients = {n: p.grad for n, p in learner.named_parameters() if p.grad is not None}
        optimizer.step()
        return logits, gradients

    first = [step(*now) for now in zip(golden["traj/lr"], golden["traj/losses"], strict=True)]
    assert_close(first[0][0], golden["out/logits"], LOGITS)
    assert_equal(first[0][1], NORMS.from_published(golden.group("grad")))
    assert_equal(norms_of(learner), NORMS.from_published(golden.group("after6")))
    assert not learner.classifier.any()
    method.start_classifier()
    assert_close(learner.classifier, golden["stage2/param/classifier"], REST)
    method.trains_classifier = True
    rates = zip(golden["stage2/traj/lr64"], golden["stage2/traj/losses64"], strict=True)
    second = [step(*now) for now in rates]
    assert_close(second[0][0], golden["stage2/out/logits"], LOGITS)
    assert_equal(second[0][1], golden.group("stage2/grad"))
    assert_equal(norms_of(learner), NORMS.from_published(golden.group("after6")))
    assert_close(learner.classifier, golden["stage2/after4/classifier"], REST)
    check_evaluation(golden, method)


def norms_of(learner):
    return {n: t for n, t in learner.state_dict().items() if n.startswith(("vision", "text"))}


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert_close(tensor, theirs[name], REST, name)


@torch.inference_mode()
def check_evaluation(golden, trained):
    """Of two names that were trained, their rows; the adapted text tower for two others."""
    how, images = (trained.settings, trained.clip), golden["in/test_images"]
    for half, names in (("base", "classnames"), ("new", "new_classnames")):
        method = TwoStageMethod(*how, golden.meta[names])
        load_learner(method, trained.learner.state_dict(), "a file", MAP)
        logits = method.classify(images, method.text_features(), seen=half == "base")
        assert_close(logits, golden[f"eval_{half}/logits"], LOGITS)
    assert torch.equal(method.prompts.ids_CL, golden["in/new_token_ids"].long())
    known = method.learner.classifier.any(dim=1)
    assert known.tolist() == [True, True, False, False]
