"""Learners that are bound to a class list, and features that methods are fitted to."""

import re
from pathlib import Path

import pytest
import torch

from tests.helpers.toy_run import CLASSES, build, classify, command, state_of
from training.class_bound import decode, encode, places
from training.feature_fit import image_features
from training.published import CLASSNAMES

FILE = Path("model.pth.tar-1")
NAMES = ["cat", "Löwe", 'a "dog"']


# Names


def test_names_survive():
    assert decode(encode(NAMES), FILE) == NAMES
    assert encode(NAMES).dtype == torch.uint8


@pytest.mark.parametrize(
    "text", [b"", b"[", b"\xff\xfe", b"[" * 100_000, b'{"cat": 1}', b'["cat", 1]', b"3"]
)
def test_damaged_names_are_said(text):
    damaged = torch.tensor(list(text), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"^model.pth.tar-1 is damaged: .*(names|texts)"):
        decode(damaged, FILE)


def test_places_are_found_by_name():
    assert places(["b", "x", "a"], ["a", "b", "c"]) == [1, None, 0]
    assert places([], ["a"]) == []


def test_a_name_that_stands_twice():
    """Equal lists need no names; in another one it cannot be told which is meant."""
    twice = ["crane", "crane", "cat"]
    assert places(twice, twice) == [0, 1, 2]
    assert places(["cat"], twice) == [2]
    with pytest.raises(ValueError, match="called 'crane', and this list of classes is another"):
        places(["cat", "crane"], twice)


# Rows


@pytest.fixture(scope="module")
def learned(toy, tmp_path_factory):
    """A trainer of all classes that has learned them."""
    opts = ("DATASET.SUBSAMPLE_CLASSES", "all", "TASK", "FS")
    trainer = build(command(toy, "LPPlusPlus", tmp_path_factory.mktemp("all"), opts=opts))
    trainer.train()
    return trainer


def same_of(trainer, names):
    return type(trainer.method)(trainer.settings, trainer.clip, names, trainer.template)


@pytest.mark.parametrize("rows", [[2, 0, 5, 1, 3, 4], [4, 1]])
def test_another_order_or_a_part_has_the_rows_of_its_names(learned, rows):
    names, state = [learned.classnames[row] for row in rows], state_of(learned)
    other = same_of(learned, names)
    other.learner.load_state_dict(other.of_checkpoint(state, FILE))
    for name in other.by_class:
        assert torch.equal(getattr(other.learner, name), state[name][rows]), name
    assert decode(other.learner.state_dict()[CLASSNAMES], FILE) == names
    images = torch.stack([image["img"] for image in learned.dm.test_loader.dataset])
    logits = other.classify(images, other.text_features(), seen=True)
    torch.testing.assert_close(logits, classify(learned)[:, rows], rtol=0, atol=1e-4)


def test_an_unknown_class_is_refused(learned):
    other = same_of(learned, [CLASSES[0], "zebra"])
    first = ", ".join(learned.classnames[:3])
    message = (
        f"{FILE} knows no class 'zebra': LPPlusPlus has learned {len(CLASSES)} classes "
        f"({first}, ...) by example and has nothing to say of others"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        other.of_checkpoint(state_of(learned), FILE)


@pytest.mark.parametrize("rows", [2, 0, None])
def test_rows_that_are_not_those_of_the_names_are_refused(rows, learned):
    state = state_of(learned)
    state["weight"] = state["weight"][:rows] if rows is not None else torch.tensor(1.0)
    message = f"damaged: it has {len(CLASSES)} class names, and weight of shape"
    with pytest.raises(ValueError, match=message):
        same_of(learned, [CLASSES[0], CLASSES[5]]).of_checkpoint(state, FILE)


def test_without_names_the_order_is_taken_for_granted(learned, capsys):
    state = state_of(learned)
    del state[CLASSNAMES]
    found = same_of(learned, learned.classnames[::-1]).of_checkpoint(state, FILE)
    assert torch.equal(found["weight"], state["weight"])
    assert decode(found[CLASSNAMES], FILE) == learned.classnames[::-1]
    assert (
        "has no class names: its rows are taken for this run's classes" in capsys.readouterr().out
    )


# Features


def features(toy, folder, view, *opts):
    trainer = build(command(toy, "LPPlusPlus", folder, opts=opts))
    torch.manual_seed(len(opts))  # has no say
    return image_features(trainer, trainer.dm.dataset.test, view)


def test_views_are_those_of_the_seed(toy, tmp_path):
    """Whatever loads them: equal for a seed and a number, others for others."""
    first = features(toy, tmp_path, 0)
    again = features(toy, tmp_path, 0, "DATALOADER.NUM_WORKERS", "2")
    assert torch.equal(first.f, again.f) and torch.equal(first.labels, again.labels)
    for other in (features(toy, tmp_path, 1), features(toy, tmp_path, 0, "SEED", "2")):
        assert (first.f != other.f).any(dim=1).all()


def test_features_without_a_view_are_those_of_a_test(toy, tmp_path):
    trainer = build(command(toy, "LPPlusPlus", tmp_path, opts=("DATALOADER.TEST.BATCH_SIZE", "4")))
    items = trainer.dm.dataset.test
    f, labels = image_features(trainer, items)
    images = torch.stack([image["img"] for image in trainer.dm.test_loader.dataset])
    torch.testing.assert_close(f, trainer.frozen_features(images), rtol=0, atol=1e-5)
    assert labels.tolist() == [item.label for item in items]
    back = image_features(trainer, items[::-1])
    torch.testing.assert_close(back.f.flip(0), f, rtol=0, atol=1e-5)


def test_features_that_are_no_numbers_are_refused(toy, tmp_path, monkeypatch):
    trainer = build(command(toy, "LPPlusPlus", tmp_path, opts=("FEATURES.STORE", "off")))
    monkeypatch.setattr(trainer.clip, "encode_image", lambda images: images[:, 0, 0] * torch.nan)
    with pytest.raises(FloatingPointError, match="features of 6 of 6 images are infinite or NaN"):
        trainer.train()
