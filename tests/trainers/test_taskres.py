"""TaskRes: the published numbers, its sentences, checkpoints that are bound to their classes."""

import pytest
import torch

from frozen_clip import prompts as prompting
from tests.helpers.golden_files import (
    LOGITS,
    REST,
    Golden,
    assert_close,
    clip,
    loss_and_gradients,
)
from tests.helpers.toy_run import build, classify, command
from tests.trainers.test_golden import optimizer_of
from tests.trainers.test_public_checkpoints import save_public
from tools.convert_checkpoint import convert
from trainers.taskres import TaskResMethod, TaskResSettings
from training.published import published
from training.templates import SELECTED_TEMPLATES

GOLDEN = Golden("fits/taskres_imagenet.npz")


@pytest.fixture
def method(monkeypatch):
    """Of the golden file, whose CLIP does not know 'small'."""
    *six, _ = SELECTED_TEMPLATES
    *theirs, own = GOLDEN.meta["templates"]
    assert six == theirs
    monkeypatch.setattr("trainers.taskres.SELECTED_TEMPLATES", six)
    method = TaskResMethod(GOLDEN.settings(), clip(), GOLDEN.meta["classnames"], own)
    method.learner.residuals.data = GOLDEN.ours("param")["residuals"]
    return method


def test_golden_numbers(method):
    assert torch.equal(method.prompts.ids_CL, GOLDEN["in/token_ids"][:, -1].long())
    assert_close(method.base, GOLDEN["buffer/prompt_learner.base_text_features"], REST)
    outputs = method(GOLDEN["in/images"])
    assert_close(outputs, GOLDEN["out/logits"], LOGITS)
    assert_close(loss_and_gradients(method, GOLDEN), GOLDEN["out/loss"], REST)
    (gradient,) = GOLDEN.group("grad").values()
    assert_close(method.learner.residuals.grad, gradient, REST)


def test_six_steps(method):
    optimizer = optimizer_of(GOLDEN, method.learner.parameters())
    for expected in GOLDEN["traj/losses"]:
        optimizer.zero_grad()
        assert_close(loss_and_gradients(method, GOLDEN), expected, REST)
        optimizer.step()
    (after,) = GOLDEN.group("after6").values()
    assert_close(method.learner.residuals, after, REST)
    logits = method.classify(GOLDEN["in/images"], method.text_features(), seen=True)
    assert_close(logits, GOLDEN["eval6/logits"], LOGITS)


def test_it_starts_as_zero_shot_with_underscores_in_names():
    names = ["digital_watch", "cat"]
    settings = TaskResSettings(dataset="OxfordPets")
    method = TaskResMethod(settings, clip(), names, "a photo of a {}.")
    ids_CL = prompting.tokenize(["a photo of a digital_watch.", "a photo of a cat."])
    assert torch.equal(method.prompts.ids_CL, ids_CL)
    assert_close(method.base, clip().encode_text(prompting.build(ids_CL)), REST)
    assert_close(method.text_features(), torch.nn.functional.normalize(method.base), REST)


@pytest.mark.parametrize(
    ("dataset", "sentences"), [("ImageNetR", 8), ("ImageNet", 8), ("OxfordPets", 1), ("", 1)]
)
def test_imagenet_and_its_variants_have_eight_sentences(dataset, sentences):
    every = [*SELECTED_TEMPLATES, "my {}."][-sentences:]
    method = TaskResMethod(TaskResSettings(dataset=dataset), clip(), ["cat", "dog"], "my {}.")
    features = [clip().encode_text(clip().prompts(["cat", "dog"], each)) for each in every]
    assert_close(method.base, sum(features) / sentences, REST)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ENHANCED_BASE", "base.pt", "ENHANCED_BASE is 'base.pt'; allowed is one of none"),
        ("RESIDUAL_SCALE", "-1", "RESIDUAL_SCALE is -1.0; allowed is"),
    ],
)
def test_refusals(key, value, message, toy, tmp_path):
    with pytest.raises(ValueError, match=message):
        build(command(toy, "TaskRes", tmp_path, opts=(f"TRAINER.TaskRes.{key}", value)))


def public(trainer, **changes) -> dict:
    """What the published code saves; its base was computed in half precision."""
    tensors = {"residuals": torch.randn_like(trainer.method.base), "base": trainer.method.base}
    state = {name: tensor.half() for name, tensor in {**tensors, **changes}.items()}
    return published(type(trainer)).maps[0].to_published(state)


def test_a_published_base_must_be_ours(toy, tmp_path):
    trainer = build(command(toy, "TaskRes", tmp_path / "ours"))
    base = trainer.method.base
    state = public(trainer)
    assert state.keys() == {"text_feature_residuals", "base_text_features"}
    trainer.load_model(str(save_public(tmp_path / "good", "prompt_learner", state)))
    learned = trainer.method.learner.residuals
    assert torch.equal(learned, state["text_feature_residuals"].float())
    for number, (other, message) in enumerate(
        [
            (base.flip(0), r"other base features than this run's: .* of '\w+ \w+' by \d+% of"),
            (2 * base, "by 100% of its length"),
            (torch.full_like(base, torch.nan), "other base features"),
            (base[:1], r"in shape, \(1, 32\) and \(3, 32\)"),
        ]
    ):
        run = save_public(tmp_path / str(number), "prompt_learner", public(trainer, base=other))
        with pytest.raises(ValueError, match=message):
            trainer.load_model(str(run))
    more = public(trainer, residuals=torch.zeros(9, 32), base=torch.zeros(9, 32))
    with pytest.raises(ValueError, match="the list of classes makes 3, needed is 9"):
        trainer.load_model(str(save_public(tmp_path / "more", "prompt_learner", more)))


def test_rows_are_found_by_name(toy, tmp_path):
    """A list of some of the classes, in another order, gets their residuals."""
    trainer = build(command(toy, "TaskRes", tmp_path / "run"))
    trainer.train()
    trainer.load_model(str(tmp_path / "run"))
    logits, state = classify(trainer), trainer.method.learner.state_dict()
    names = trainer.classnames
    part = TaskResMethod(trainer.settings, trainer.clip, [names[2], names[0]], trainer.template)
    part.learner.load_state_dict(part.of_checkpoint(state, tmp_path))
    w = trainer.method.text_features()[[2, 0]]
    assert_close(part.text_features(), w, REST)
    assert logits.shape == (9, 3)


def test_to_public_and_back(toy, tmp_path):
    trainer = build(command(toy, "TaskRes", tmp_path / "run"))
    trainer.train()
    trained = classify(trainer)
    convert(tmp_path / "run", tmp_path / "public", to="public")
    convert(tmp_path / "public", tmp_path / "back")
    saved = save_public(tmp_path / "with_base", "prompt_learner", public(trainer))
    assert "TaskRes learned" in convert(saved, tmp_path / "again")
    again = build(command(toy, "TaskRes", tmp_path / "new"))
    again.load_model(str(tmp_path / "back"))
    assert torch.equal(classify(again), trained)
    again.load_model(str(tmp_path / "again"))
