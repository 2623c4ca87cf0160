"""LP++: every state of the published training, its step sizes, which state answers."""

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
from tests.helpers.golden_files import LOGITS, REST, Golden, assert_close, clip
from tests.helpers.toy_run import build, command
from training.feature_fit import Features
from training.method import normalize
from training.templates import SELECTED_TEMPLATES

GOLDEN = Golden("fits/lpplus.npz")
OURS = {"weight": "classifier.weight", "bias": "classifier.bias", "alpha": "alpha_vec"}


def method_of(**more):
    golden = GOLDEN
    settings = type(golden.settings())(**{**vars(golden.settings()), **more})
    (template,) = golden.meta["templates"]
    method = golden.trainer.Method(settings, clip(), golden.meta["classnames"], template)
    method.learner.bias.data = golden["param/classifier.bias"].clone()
    return method


def features(part):
    return Features(
        clip().encode_image(GOLDEN[f"in/{part}_images"]).float(), GOLDEN[f"in/{part}_labels"]
    )


def assert_state(method, group, logits=None):
    """Numbers of any size: the tolerance is a part of the largest."""
    for ours, theirs in OURS.items():
        wanted = GOLDEN[f"{group}/{theirs}"]
        got = getattr(method.learner, ours).reshape(wanted.shape)
        assert_close(got, wanted, REST * max(1, float(wanted.abs().max())), f"{group} {ours}")
    if logits:
        found = method.classify(GOLDEN["in/images"], method.text_features(), seen=True)
        assert_close(found, GOLDEN[logits], LOGITS)


def test_features_and_the_start():
    method, (f, labels) = method_of(), features("train")
    assert torch.equal(method.prompts.ids_CL, GOLDEN["in/token_ids"].long())
    assert_close(method.w, GOLDEN["out/text_features"], REST)
    assert_close(method.features(f), GOLDEN["out/train_features"], REST)
    method.start(method.features(f), labels)
    assert_state(method, "param")
    wanted = GOLDEN["out/step_sizes64"].tolist()
    assert method.step_sizes(method.features(f)) == pytest.approx(wanted, rel=REST)
    logits = method.classify(GOLDEN["in/train_images"], method.text_features(), seen=True)
    assert_close(logits, GOLDEN["out/logits"], LOGITS)


def test_every_epoch():
    """Losses, accuracies and states. The state that is best on validation images comes last."""
    method, train, val = method_of(), features("train"), features("val")
    f = method.features(train.f)
    method.start(f, train.labels)
    losses, right = GOLDEN["traj/losses"], GOLDEN["traj/val_accuracy"]

    def loss():
        logits = method.classify(GOLDEN["in/train_images"], method.text_features(), seen=True)
        return torch.nn.functional.cross_entropy(logits, train.labels).double().detach()

    before = loss()
    for epoch in method.epochs(f, train.labels):
        assert_close(before, losses[epoch - 1], REST)
        assert 100 * method.right_answers(val) / len(val.labels) == pytest.approx(
            float(right[epoch - 1])
        )
        if f"after{epoch}/alpha_vec" in GOLDEN.tensors:
            assert_state(method, f"after{epoch}", f"eval{epoch}/logits")
        before = loss()
    assert epoch == 60
    assert not any(p.grad is not None for p in method.learner.parameters())


def test_the_latest_of_the_best_answers(capsys):
    method = method_of()
    method.fit([features("train")], features("val"))
    assert f"Best after epoch {int(GOLDEN['out/best_epoch']) + 1}: " in capsys.readouterr().out
    logits = method.classify(GOLDEN["in/images"], method.text_features(), seen=True)
    assert_close(logits, GOLDEN["eval_best/logits"], LOGITS)


@pytest.mark.parametrize("epochs", [6, 25])
def test_without_validation_images_the_last_state_answers(epochs, capsys):
    method = method_of(epochs=epochs)
    method.fit([features("train")], None)
    assert_state(method, f"after{epochs}")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"There are no validation images: the last state is kept, of epoch {epochs}"]


@pytest.mark.parametrize(
    ("dataset", "templates"),
    [
        ("ImageNet", SELECTED_TEMPLATES),
        ("ImageNetSketch", SELECTED_TEMPLATES),
        ("Food101", ("a {}",)),
    ],
)
def test_sentences(dataset, templates):
    """ImageNet and its variants have seven; DATASET.TEMPLATE leaves `dataset` empty."""
    trainer, names = TRAINER_REGISTRY.get("LPPlusPlus"), ["cat", "dog"]
    settings = trainer.Method.Settings(dataset=dataset)
    assert settings.needs_template is (len(templates) == 1)
    method = trainer.Method(settings, clip(), names, "a {}")
    each = [normalize(clip().encode_text(clip().prompts(names, t))) for t in templates]
    assert_close(method.w, normalize(torch.stack(each).mean(dim=0)), REST)


def test_the_bias_starts_as_that_of_a_linear_layer(toy, tmp_path):
    trainer = build(command(toy, "LPPlusPlus", tmp_path))
    bias, width = trainer.method.learner.bias, trainer.clip.embed_dim
    assert bias.abs().max() <= width**-0.5 and bias.unique().numel() == 3
