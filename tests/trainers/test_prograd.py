"""What is particular to ProGrad, beside the contract and its numbers."""

import re

import pytest
import torch
import torch.nn.functional as F

import train
from frozen_clip import FrozenCLIP, reference, text
from tests.helpers.golden_files import REST, Golden, assert_close, clip
from tests.helpers.toy_run import build, classify, command
from tools.predict import load
from trainers.prograd import ProGradMethod, ProGradSettings, without_conflict
from training.templates import DATASET_TEMPLATES

GOLDEN = ["baselines/prograd_words.npz", "baselines/prograd_agree.npz"]
NAMES = ["cat", "digital_watch", "annual crop land"]


@pytest.mark.parametrize("file", GOLDEN)
def test_both_losses_and_gradients(file):
    golden = Golden(file)
    method = golden.method()
    ids = clip().prompts(golden.meta["classnames"], method.template).ids_CL
    assert torch.equal(ids, golden["in/teacher_token_ids"].long())
    outputs = method(golden["in/images"])
    assert_close(method.w0, golden["out/zs_text_features"], REST)
    assert_close(outputs.logits0, golden["out/zs_logits"], 1e-4)
    terms, gradients = method.losses(outputs, golden["in/labels"]), []
    for name in ("ce", "kl"):
        assert_close(terms[name], golden[f"out/loss_{name}"], REST)
        gradients += torch.autograd.grad(terms[name], method.learner.context, retain_graph=True)
        assert_close(gradients[-1], golden[f"grad_{name}/prompt_learner.ctx"], REST)
    cosine = F.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0)
    assert_close(cosine, golden["traj/cosines"][0].float(), REST)


def test_the_rule():
    b = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    along, against = torch.tensor([[3.0, 1.0], [1.0, 1.0]]), torch.tensor([[-3.0, 1.0], [1.0, 1.0]])
    assert torch.equal(without_conflict(along, b, 1.0), along)
    assert torch.equal(without_conflict(against, 0 * b, 1.0), against)
    assert without_conflict(against, b, 1.0).tolist() == [[0.0, 1.0], [1.0, 1.0]]
    assert without_conflict(against, b, 0.5).tolist() == [[-1.5, 1.0], [1.0, 1.0]]
    for wrong in (float("inf"), float("nan")):
        assert not without_conflict(along, b + torch.tensor([wrong, 0]), 1.0).isfinite().all()
        assert not without_conflict(along + torch.tensor([0, wrong]), b, 1.0).isfinite().all()


@pytest.mark.parametrize("file", GOLDEN)
def test_a_loss_scaler_scales_the_gradient(file):
    golden, found = Golden(file), []
    for factor in (1.0, 1024.0):
        method = golden.method()
        terms = method.losses(method(golden["in/images"]), golden["in/labels"])
        method.backward(terms, lambda loss, factor=factor: factor * loss)
        found.append(method.learner.context.grad / factor)
    assert_close(*found, 1e-7)


@pytest.mark.parametrize(
    ("dataset", "words", "fixed"),
    [
        ("OxfordFlowers", "a type of flower, a photo of a", ["a"]),
        ("FGVCAircraft", "a type of aircraft, a photo of a", ["a"]),
        ("Food101", "a type of food, a photo of", ["of"]),
        ("DescribableTextures", "a texture of", []),
        ("UCF101", "a photo of a person doing", []),
        ("EuroSAT", "a centered satellite photo of", []),
        ("ImageNet", "a photo of a", []),
    ],
)
def test_words_fill_the_last_places(dataset, words, fixed):
    """Counted by spaces: a comma pushes the last token of them out of the context."""
    settings = ProGradSettings(ctx_init=True, dataset=dataset)
    method = ProGradMethod(settings, clip(), NAMES, DATASET_TEMPLATES[dataset])
    count, context = len(words.split()), method.learner.context
    assert context.shape == (16, 64) and not context[: 16 - count].any()
    ids = clip().prompts(["x"], f"{words} {{}}.").ids_CL[0]
    assert torch.equal(context[16 - count :], clip().text.words(ids[1 : 1 + count]))
    behind = " ".join([*fixed, "cat."])
    end = method.prompts.ids_CL[0, 17 : 20 + len(fixed)]
    assert torch.equal(end, clip().prompts([behind], "{}").ids_CL[0, 1 : 4 + len(fixed)])
    w0 = clip().encode_text(clip().prompts(NAMES, f"{words} {{}}."))
    assert_close(method.w0, F.normalize(w0, dim=-1), REST)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("csc", [False, True])
def test_as_computed_without_sharing(csc, position, monkeypatch):
    """Also where the text tower runs in parts that its backward pass computes again, twice."""
    monkeypatch.setattr(text, "MOST_ROWS", 8)
    model, found = reference.random_clip(), []
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    how = {"csc": csc, "class_token_position": position, "t": 2.0, "lambda_": 0.7}
    settings = ProGradSettings(n_ctx=6, ctx_init=True, **how)
    for one in (FrozenCLIP(model, "fast"), reference.PlainCLIP(model)):
        method = ProGradMethod(settings, one, NAMES, "a texture, of {}.")
        method.backward(method.losses(method(images), labels), lambda loss: loss)
        found.append(method.learner.context.grad)
    assert_close(*found, REST)


def test_predictions_use_the_words_of_training(toy, tmp_path, monkeypatch):
    sentences = {"ColoredShapes": "a type of shape, a photo of a {}."}
    monkeypatch.setattr(ProGradSettings, "own_templates", sentences)
    assert train.main(command(toy, "ProGrad", tmp_path)) == 0
    trainer = build(command(toy, "ProGrad", tmp_path / "again"))
    assert trainer.method.settings.words == "a type of shape, a photo of a"
    trainer.load_model(str(tmp_path))
    files, expected = [item.impath for item in trainer.dm.dataset.test], classify(trainer)
    assert_close(torch.as_tensor(load(tmp_path).logits(files)), expected, REST)
    (tmp_path / "classes.json").unlink()  # names and sentence are read from the dataset
    again = load(tmp_path, root=str(toy), cache=False)
    assert_close(torch.as_tensor(again.logits(files)), expected, REST)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("TRAINER.PROGRAD.N_CTX", "3"), "has 4 of them ('a photo of a'); allowed are 1 to"),
        (("DATASET.TEMPLATE", "{} texture."), "has 0 of them (''); allowed are 1 to"),
        (("TRAINER.PROGRAD.NAME", "coop"), "NAME is 'coop'; allowed is one of prograd"),
        (("TRAINER.PROGRAD.T", "0"), "T is 0.0; allowed is a number above 0"),
        (("TRAINER.PROGRAD.LAMBDA", "-1"), "PROGRAD.LAMBDA is -1.0; allowed is a number from 0"),
        (("TRAIN.COMPILE", "True"), "TRAIN.COMPILE is True, but"),
    ],
)
def test_wrong_settings_say_what_is_allowed(opts, message, toy, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(command(toy, "ProGrad", tmp_path, opts=opts))
