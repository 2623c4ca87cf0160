"""tools.predict: other classes and sentences than those of training."""

import pytest
import torch

import train
from tests.helpers.predict_runs import refused
from tests.helpers.toy_run import command
from tests.wrong.data import own_folder
from tools.predict import load
from tools.predict.__main__ import read_classes


def test_names_from_a_file(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffred circle\r\n\nblue, square \n".encode())
    assert read_classes(str(file)) == ["red circle", "blue, square "]
    file.write_bytes("red circle\rblue square\r".encode("utf-16"))
    assert read_classes(str(file)) == ["red circle", "blue square"]
    file.write_bytes("café\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"names.txt is not UTF-8: (?s:.*) iconv -f LATIN1"):
        read_classes(str(file))
    assert read_classes("red circle,blue ring") == ["red circle", "blue ring"]
    assert read_classes("cat") == ["cat"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("names.txt", "no such file"),
        ("a,,b", "empty"),
        ("a,b, a", "twice: a"),
        (",", "empty"),
        ("cat", "at least two"),
    ],
)
def test_names_that_cannot_be(classes, message, run, picture, capsys):
    assert message in refused(capsys, "--model-dir", run, "--classes", classes, picture)


def test_a_sentence_of_ones_own(run, picture):
    usual, other = load(run), load(run, template="a drawing of a {}.")
    assert not torch.equal(usual.text_features, other.text_features)
    assert torch.equal(
        load(run, template="a photo of a {}.").logits(picture), usual.logits(picture)
    )


def test_a_sentence_that_cannot_be(run, runs, picture, capsys):
    message = refused(capsys, "--model-dir", run, "--template", "a photo", picture)
    assert "needs a sentence with one {}" in message
    message = refused(capsys, "--model-dir", runs("CoOp"), "--template", "a {}.", picture)
    assert "--template does not apply" in message


def test_contexts_of_classes_answer_for_no_others(runs, picture, capsys):
    folder = runs("CoOp", "TRAINER.COOP.CSC", "True")
    message = refused(capsys, "--model-dir", folder, "--classes", "pink ring,green star", picture)
    assert "learned for each of 3 classes, so it cannot answer for 2 others" in message


def test_a_part_of_what_was_learned_by_example_is_no_unseen_class(runs):
    names = ["blue circle", "red circle"]
    assert load(runs("TaskRes"), classes=names).seen
    assert not load(runs("CoOp"), classes=names).seen


def test_names_without_meaning_are_told_every_time(toy, tmp_path, picture):
    assert train.main(command(toy, "MMRL", tmp_path, clip="small")) == 0
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 of 2 class names \(aardvark\)") as warned:
            load(tmp_path, classes=["aardvark", "red circle"])
        assert len(warned) == 1


def test_names_that_are_read_alike_are_told_every_time(run):
    """Also where the class features are kept from before, and no prompt is read again."""
    for _ in range(2):
        with pytest.warns(UserWarning, match="'red circle' = 'Red_circle'") as warned:
            load(run, classes=["red circle", "blue ring", "Red_circle"])
        assert len(warned) == 1


def test_training_tells_once_of_names_that_are_read_alike(toy, tmp_path):
    own = own_folder("Red circle", "red_circle", "blue ring")
    own(tmp_path)
    opts = ("DATASET.NAME", "ImageFolder", "DATASET.PATH", str(tmp_path / "own"), "TASK", "FS")
    opts = (*opts, "DATASET.SUBSAMPLE_CLASSES", "all")
    with pytest.warns(UserWarning, match="'Red circle' = 'red_circle'") as warned:
        assert train.main(command(toy, "CoOp", tmp_path / "out", opts=opts)) == 0
    assert len(warned) == 1
    csc = (*opts, "TRAINER.COOP.CSC", "True")  # each has words of its own: no warning
    assert train.main(command(toy, "CoOp", tmp_path / "csc", opts=csc)) == 0
