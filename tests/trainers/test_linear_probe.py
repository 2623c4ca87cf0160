"""LinearProbe: exact minima, the published search, its two forms, what it refuses."""

import pytest
import torch

from tests.helpers.golden_files import LOGITS, REST, Golden, assert_close, clip
from tests.helpers.toy_run import build, command
from trainers.linear_probe import (
    REACHED,
    Fits,
    LinearProbeMethod,
    LinearProbeSettings,
    first_of_each,
)
from training.feature_fit import Features, image_features, validation_images
from training.method import normalize

GOLDEN = Golden("fits/linear_probe.npz")
NAMES = list("abcde")


def features_of(images: torch.Tensor) -> torch.Tensor:
    return clip().encode_image(images).float()


def fitted(c: float = 0.0) -> LinearProbeMethod:
    settings = LinearProbeSettings(num_step=GOLDEN.options["NUM_STEP"], c=c, normalize=True)
    method = LinearProbeMethod(settings, clip(), NAMES)
    train, val = (
        Features(features_of(GOLDEN[f"in/{part}_images"]), GOLDEN[f"in/{part}_labels"])
        for part in ("train", "val")
    )
    method.fit([train], val)
    return method


def test_the_golden_form_is_the_normalized_one():
    for images, features in (("train_images", "train"), ("val_images", "val"), ("images", "image")):
        f = normalize(features_of(GOLDEN[f"in/{images}"]))
        assert_close(f, GOLDEN[f"out/{features}_features"], REST)


@pytest.mark.parametrize("c", [1, 100, 10000])
def test_exact_minima(c):
    golden = GOLDEN.group(f"fit_{c}")
    fits = Fits(GOLDEN["out/train_features"], GOLDEN["in/train_labels"])
    fits(1e6)  # does not matter
    weight, bias = fits(c)
    assert_close(weight, golden["weight64"], REST)
    assert_close(bias, golden["bias64"], REST)
    method = fitted(c)
    logits = method.classify(GOLDEN["in/images"], method.text_features(), seen=True)
    assert_close(logits, golden["logits64"].float(), LOGITS)


def test_the_published_search(monkeypatch, capsys):
    """C in the order of fitting, the accuracies, and what is chosen."""
    asked, fit = [], Fits.__call__
    monkeypatch.setattr(Fits, "__call__", lambda self, c: (asked.append(c), fit(self, c))[1])
    fitted()
    chosen = asked.pop()
    assert asked == pytest.approx(GOLDEN["out/fitted_C64"].tolist())
    assert chosen == pytest.approx(float(GOLDEN["out/chosen_C64"]))
    lines = [line for line in capsys.readouterr().out.splitlines() if "validation" in line]
    accuracies = [float(line.split(": ")[1].split("%")[0]) for line in lines]
    assert accuracies == pytest.approx(GOLDEN["out/val_accuracy64"].tolist(), abs=0.051)


@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize("c", [1e-7, 1e-3, 1.0, 1e3, 1e7])
@pytest.mark.parametrize("separable", [True, False])
def test_the_minimum_is_reached_for_any_c(classes, c, separable, capsys):
    """The gradient of the objective, by autograd, is zero; two classes have the same objective."""
    torch.manual_seed(0)
    f, labels = torch.randn(20, 64 if separable else 3), torch.arange(20) % classes
    weight, bias = Fits(f, labels)(c)
    assert weight.shape[0] == classes and abs(bias.mean()) < 1e-9 * (1 + bias.norm())
    weight.requires_grad_()
    bias.requires_grad_()
    logits = f.double() @ weight.mT + bias
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    (c * loss + weight.square().sum() / 2).backward()
    length = torch.cat([weight.grad.flatten(), bias.grad]).norm()
    assert length <= REACHED * weight.norm() and not capsys.readouterr().out


def test_a_minimum_that_is_not_reached_is_said(monkeypatch, capsys):
    monkeypatch.setattr("trainers.linear_probe.TOLERANCES", (0.1,))
    Fits(GOLDEN["out/train_features"], GOLDEN["in/train_labels"])(1e6)
    assert "C 1e+06: the minimum was not reached; W, of length" in capsys.readouterr().out


def test_validation_images_of_a_class_are_its_first():
    labels = torch.tensor([1, 0, 0, 1, 1, 0, 2])
    assert first_of_each(labels, 2).tolist() == [0, 1, 2, 3, 6]


@pytest.mark.parametrize("form", ["False", "True"])
def test_the_two_forms(form, toy, tmp_path, monkeypatch):
    """Center crops or one random view; features as they are, or of length 1, in tests too."""
    node = "TRAINER.LINEARPROBE"
    opts = (f"{node}.NORMALIZE", form, f"{node}.AUGMENT", form, f"{node}.C", "1")
    crop = ("INPUT.TRANSFORMS", '["random_resized_crop", "normalize"]')
    trainer = build(command(toy, "LinearProbe", tmp_path, opts=(*opts, *crop)))
    trainer.train()
    items, is_second = trainer.dm.dataset.train_x, form == "True"
    f, labels = image_features(trainer, items, 0 if is_second else None)
    weight, bias = Fits(normalize(f) if is_second else f, labels)(1)
    assert_close(trainer.method.learner.weight, weight.float(), REST)
    assert_close(trainer.method.learner.bias, bias.float(), REST)
    images = torch.stack([image["img"] for image in trainer.dm.test_loader.dataset])
    f = features = trainer.frozen_features(images)
    f = normalize(features) if is_second else features
    assert_close(trainer.model_inference(images), f @ weight.float().mT + bias.float(), LOGITS)


def test_nothing_is_chosen_on_test_images(toy, tmp_path):
    trainer = build(command(toy, "LinearProbe", tmp_path))
    data = trainer.dm.dataset
    assert validation_images(data) == data.val
    data._val = data.test  # as ImageNet's is
    assert validation_images(data) == []
    message = r"LINEARPROBE.C is 0, .* ColoredShapes has none .*: set TRAINER.LINEARPROBE.C, for"
    with pytest.raises(ValueError, match=message):
        trainer.train()
    trainer = build(command(toy, "LinearProbe", tmp_path, opts=("TRAINER.LINEARPROBE.C", "1")))
    trainer.dm.dataset._val = None
    trainer.train()
