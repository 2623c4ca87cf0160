"""TCP: tokens of each class, sentences per dataset, and CoCoOp's names in its public files."""

from dataclasses import replace

import pytest
import torch

import train
from frozen_clip import prompts as prompting
from frozen_clip import reference
from tests.helpers.golden_files import REST, Golden, assert_close, clip, loss_and_gradients
from tests.helpers.toy_run import build, command
from tests.trainers.test_public_checkpoints import save_public
from tools.predict import load
from trainers.tcp import PROMPTS, ClassAwarePrompts, TCPMethod, TCPSettings

GOLDEN = Golden("baselines/tcp_pets.npz")


def test_class_tokens_and_terms():
    method = GOLDEN.method()
    teacher = clip().prompts(GOLDEN.meta["classnames"], GOLDEN.meta["template"])
    assert torch.equal(teacher.ids_CL, GOLDEN["in/teacher_token_ids"].long())
    assert_close(method.w0, GOLDEN["out/zs_text_features"], REST)
    assert_close(method.class_tokens(), GOLDEN["out/class_prompts"], REST)
    terms = method.losses(method(GOLDEN["in/images"]), GOLDEN["in/labels"])
    assert_close(terms["ce"], GOLDEN["out/loss_ce"], REST)
    assert_close(terms["cos_text"], 8 * GOLDEN["out/loss_kg"], REST)


@pytest.mark.parametrize("layer", [2, 9, 12])
def test_sharing_a_prefix_changes_nothing(layer):
    """Gradients, too; of long words before the names, some behind the learned ones."""
    found = []
    for model in (clip(), reference.PlainCLIP(clip().clip)):
        settings = replace(GOLDEN.settings(), dataset="UCF101", layer=layer)
        method = TCPMethod(settings, model, GOLDEN.meta["classnames"], "a photo of {}.")
        method.learner.load_state_dict(GOLDEN.ours("param"))
        loss = loss_and_gradients(method, GOLDEN)
        found.append([loss, *(p.grad for p in method.learner.parameters())])
    for ours, plain in zip(*found, strict=True):
        assert_close(ours, plain, REST)


@pytest.mark.parametrize(
    ("dataset", "prompt", "sentence"),
    [
        ("OxfordPets", "X X X X cat, a type of pet.", "own cat."),
        ("StanfordCars", "X X X X cat, a type of car", "own cat."),
        ("DescribableTextures", "X X X X cat texture.", "a photo of a cat, a type of texture."),
        ("FGVCAircraft", "X X X X cat, a type of aircraft.", "a photo of an aircraft cat."),
        ("Food101", "X X X X cat, a type of food.", "a photo of a cat, a type of food."),
        ("UCF101", "a photo of a person doing cat.", "own cat."),
        ("ImageNetV2", "a photo of a cat.", "own cat."),
        ("ImageFolder", "X X X X cat.", "own cat."),
        ("", "X X X X cat.", "own cat."),  # DATASET.TEMPLATE
    ],
)
def test_sentences(dataset, prompt, sentence):
    method = TCPMethod(TCPSettings(dataset=dataset), clip(), ["cat", "dog"], "own {}.")
    assert torch.equal(method.prompts.ids_CL[:1], prompting.tokenize([prompt]))
    w0 = clip().encode_text(clip().prompts(["cat", "dog"], sentence.replace("cat", "{}")))
    assert_close(method.w0, torch.nn.functional.normalize(w0), REST)


def test_the_start():
    """The context random or words, the net as nn.Linear starts."""
    torch.manual_seed(0)
    learner = ClassAwarePrompts(TCPSettings(), clip())
    torch.manual_seed(0)
    assert torch.equal(learner.context, 0.02 * torch.randn(4, 64))
    first, second = torch.nn.Linear(64, 16), torch.nn.Linear(16, 256)
    assert torch.equal(learner.token_net.linear1.weight, first.weight)
    assert torch.equal(learner.token_net.linear2.bias, second.bias)
    words = clip().text.words(prompting.tokenize(["a photo of a"])[0, 1:5])
    assert torch.equal(ClassAwarePrompts(TCPSettings(ctx_init=True), clip()).context, words)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("N_CTX", "16", "N_CTX is 16; allowed is 4"),
        ("CSC", "True", "CSC is True; allowed is False"),
        ("LAYER", "9", r"LAYER is 9; allowed for .*narrow.pt is a layer .* from 2 to 3"),
        ("LAYER", "1", "LAYER is 1; allowed is a whole number from 2"),
    ],
)
def test_refusals(key, value, message, toy, tmp_path):
    with pytest.raises(ValueError, match=message):
        build(command(toy, "TCP", tmp_path, opts=(f"TRAINER.TCP.{key}", value)))


@pytest.mark.parametrize(("file", "other"), [("tcp_pets", "CoCoOp"), ("cocoop_c4", "TCP")])
def test_public_files_of_equal_names_are_told_apart_by_shapes(file, other, toy, tmp_path):
    golden = Golden(f"baselines/{file}.npz")
    run = save_public(tmp_path / "public", "prompt_learner", golden.group("param"))
    trainer = build(command(toy, other, tmp_path / "ours"))
    with pytest.raises(ValueError, match=f"it holds what {golden.meta['trainer']} learns"):
        trainer.load_model(str(run))


def test_predict_knows_the_dataset(toy, tmp_path, monkeypatch):
    """Its sentences are the run's, and not what a DATASET.TEMPLATE would mean."""
    monkeypatch.setitem(PROMPTS, "ColoredShapes", "X X X X {} shape.")
    assert train.main(command(toy, "TCP", tmp_path)) == 0
    classifier = load(tmp_path, cache=False)
    prompts = prompting.tokenize(["X X X X red circle shape."])
    assert torch.equal(classifier.method.prompts.ids_CL[:1], prompts)
    given = load(tmp_path, cache=False, template="a {}.")
    assert torch.equal(given.method.prompts.ids_CL[:1], prompting.tokenize(["X X X X red circle."]))
