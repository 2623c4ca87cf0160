"""`tools.predict.load`: a trained method from Python."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.predict_runs import listed
from tests.helpers.toy_run import build, classify, command
from tools.predict import load


def test_what_may_be_given(run, toy):
    files = sorted((toy / "colored_shapes" / "images" / "blue_circle").glob("test_*.png"))
    clf = load(run)
    pictures = [Image.open(file).copy() for file in files]
    logits = clf.logits(files)
    assert logits.shape == (3, 3) and logits.dtype == torch.float32
    for same in (
        list(map(str, files)),
        pictures,
        torch.stack([clf.transform(p) for p in pictures]),
    ):
        assert torch.equal(clf.logits(same), logits)
    assert torch.allclose(clf.probabilities(files).sum(dim=1), torch.ones(3))
    for one in (files[0], str(files[0]), pictures[0], clf.transform(pictures[0])):
        assert torch.allclose(clf.logits(one), logits[:1], atol=1e-4)
    palette = pictures[0].convert("P")
    assert clf.logits(palette).shape == (1, 3)
    assert clf([]) == [] and clf.logits([]).shape == (0, 3)
    clf.batch_size = 2
    assert torch.allclose(clf.logits(files), logits, atol=1e-4)


def test_answers_are_sorted_and_named(run, picture):
    clf = load(run)
    (answer,) = clf(picture)
    assert [a.name for a in answer] == [clf.classes[a.label] for a in answer]
    assert sum(a.probability for a in answer) == pytest.approx(1)
    assert [a.probability for a in answer] == sorted((a.probability for a in answer), reverse=True)
    assert clf(picture, topk=2) == [answer[:2]]
    with pytest.raises(ValueError, match="topk is 0"):
        clf(picture, topk=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"must be \(N, 3, 32, 32\).*this is \(2, 3, 8, 8\)"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        ([3], "not int"),
        (3, "not int"),
        (np.zeros((32, 32, 3), np.uint8), r"not ndarray: give Image\.fromarray.*blue first"),
        ([np.zeros((32, 32, 3), np.uint8)], r"not ndarray: give Image\.fromarray"),
        ([torch.zeros(3, 32, 32)], r"not Tensor in a list: give torch\.stack"),
        (
            torch.full((2, 3, 32, 32), 200.0),
            r"values from 200 to 200, but `transform` makes -1\.79",
        ),
        (torch.full((2, 3, 32, 32), torch.nan), "values from nan to nan"),
        (Image.new("F", (40, 40), 0.5), r"PIL image \(mode F, values 0\.5 to 0\.5.*to 8 bits"),
        (Image.new("I;16", (40, 40), 4000), r"PIL image \(mode I;16, values 4000 to 4000"),
        (["nowhere.png"], "nowhere.png"),
    ],
)
def test_what_may_not_be_given(images, message, run):
    with pytest.raises((ValueError, TypeError, OSError), match=message):
        load(run)(images)


def test_images_of_a_generator_an_array_and_16_bits(run, picture):
    clf = load(run)
    expected = clf.logits(picture)
    with Image.open(picture) as image:
        array = np.asarray(image.convert("RGB"))
    for same in ((p for p in [picture]), np.array([picture]), Image.fromarray(array)):
        assert torch.equal(clf.logits(same), expected)
    grey = Image.fromarray(array[..., 0])
    deep = Image.fromarray(array[..., 0].astype(np.uint16) * 257)
    assert torch.equal(clf.logits(deep), clf.logits(grey))


def test_a_tensor_that_was_perhaps_not_normalized(run):
    with pytest.warns(UserWarning, match="values from 0 to 1 only: was it normalized"):
        load(run).logits(torch.rand(2, 3, 32, 32))


def test_loading_leaves_generators_alone(run, capsys):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(run, cache=False)
    assert torch.equal(torch.rand(3), expected)
    shown = capsys.readouterr()
    assert not shown.out and not shown.err


def test_an_epoch_may_be_chosen(runs, toy, picture):
    folder = runs("MMRL", "TRAIN.CHECKPOINT_FREQ", "1")
    trainer = build(command(toy, "MMRL", folder))
    trainer.load_model(str(folder), epoch=1)
    pictures = listed(folder, toy)
    assert torch.equal(load(folder, epoch=1).logits(pictures), classify(trainer))
    assert not torch.equal(load(folder).logits(pictures), classify(trainer))
