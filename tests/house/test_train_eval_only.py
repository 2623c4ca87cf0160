"""train.py --eval-only: which weights are tested, and who answers."""

import json
import re

import pytest

import train
from tests.helpers.toy_run import build, command, refused


def test_eval_only_repeats_the_test_of_training(trained, toy, tmp_path):
    flags = ("--eval-only", "--model-dir", str(trained))
    assert train.main(command(toy, "MMRL", tmp_path / "eval", *flags)) == 0
    first, second = (
        json.loads((folder / "results.json").read_text()) for folder in (trained, tmp_path / "eval")
    )
    for key in ("accuracy", "macro_f1", "total", "correct"):
        assert first[key] == second[key]
    assert "epoch [" not in (tmp_path / "eval" / "log.txt").read_text()


@pytest.mark.parametrize(("flag", "expected"), [(("--load-epoch", "1"), 1), ((), 2)])
def test_load_epoch_is_honoured_and_the_newest_is_the_default(
    flag, expected, trained, toy, tmp_path
):
    arguments = command(toy, "MMRL", tmp_path / "e", "--eval-only", "--model-dir", str(trained))
    assert train.main([*arguments[:12], *flag, *arguments[12:]]) == 0
    assert f"model.pth.tar-{expected}\n" in (tmp_path / "e" / "log.txt").read_text()


def test_eval_only_without_weights_is_an_error(toy, tmp_path, capsys):
    output = tmp_path / "e"
    message = refused(capsys, command(toy, "MMRL", output, "--eval-only"))
    assert "no --model-dir was given" in message
    flags = ("--eval-only", "--model-dir", str(tmp_path / "nowhere"))
    message = refused(capsys, command(toy, "MMRL", output, *flags))
    assert "no checkpoint of any epoch" in message and "there is none" in message
    assert not (output / "results.json").exists()


def test_an_epoch_that_is_not_there(trained, toy, tmp_path, capsys):
    flags = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "7")
    message = refused(capsys, command(toy, "MMRL", tmp_path / "e", *flags))
    assert "of epoch 7" in message and "there are epochs [1, 2]" in message


@pytest.mark.parametrize("copy", ["model.pth.tar-2 (1)", "model.pth (1).tar-2"])
def test_a_second_copy_is_found_when_it_is_renamed(copy, trained, toy, tmp_path, capsys):
    folder = trained / "MultiModalRepresentationLearner"
    (folder / "model.pth.tar-2").rename(folder / copy)
    flags = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "2")
    arguments = command(toy, "MMRL", tmp_path / "e", *flags)
    message = refused(capsys, arguments)
    assert f"there are epochs [1], but {[copy]}: rename it to model.pth.tar-<epoch>" in message
    (folder / copy).rename(folder / "model.pth.tar-2")
    assert train.main(arguments) == 0


def test_an_epoch_whose_file_is_damaged(trained, toy, tmp_path, capsys):
    file = trained / "MultiModalRepresentationLearner" / "model.pth.tar-2"
    file.write_bytes(file.read_bytes()[:5000])
    for epoch in ((), ("--load-epoch", "2")):
        flags = ("--eval-only", "--model-dir", str(trained), *epoch)
        message = refused(capsys, command(toy, "MMRL", tmp_path / "e", *flags))
        assert "model.pth.tar-2 is damaged, its end is missing" in message
        assert "or use another epoch beside it: [1]" in message
    flags = (*flags[:-1], "1")
    assert train.main(command(toy, "MMRL", tmp_path / "e", *flags)) == 0


def test_zero_shot_needs_no_weights(toy, tmp_path):
    assert train.main(command(toy, "ZeroshotCLIP", tmp_path / "a", "--eval-only")) == 0
    assert (tmp_path / "a" / "results.json").is_file()


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("TRAINER.MMRL.REP_LAYERS", "[1, 2]"), r"REP_LAYERS is \[1, 2\], trained with \[2, 3\]"),
        (("TRAINER.MMRL.N_REP_TOKENS", "3"), "N_REP_TOKENS is 3, trained with 5: use"),
        (("MODEL.BACKBONE.NAME", "{toy}/wide.pt"), r"BACKBONE.NAME is .*wide.pt, trained with"),
    ],
)
def test_a_config_that_disagrees_names_the_key(opts, message, trained, toy, tmp_path, capsys):
    opts = tuple(word.format(toy=toy) for word in opts)
    flags = ("--eval-only", "--model-dir", str(trained))
    arguments = command(toy, "MMRL", tmp_path / "e", *flags, opts=opts)
    assert re.search(message, refused(capsys, arguments))


def test_a_checkpoint_without_its_config_is_still_checked(trained, toy, tmp_path, capsys):
    (trained / "config.yaml").unlink()
    flags = ("--eval-only", "--model-dir", str(trained))
    arguments = command(toy, "MMRL", tmp_path / "e", *flags, opts=("TRAINER.MMRL.REP_DIM", "96"))
    message = refused(capsys, arguments)
    assert "rep_tokens has shape (5, " in message and "the config makes (5, 96)" in message


def test_who_answers_depends_on_the_protocol(toy, tmp_path):
    answers = {}
    for task, classes in (("B2N", "base"), ("B2N", "new"), ("FS", "all"), ("CD", "all")):
        opts = ("TASK", task, "DATASET.SUBSAMPLE_CLASSES", classes)
        trainer = build(command(toy, "MMRL", tmp_path, opts=opts))
        answers[task, classes] = trainer.seen
    assert answers == {
        ("B2N", "base"): True,
        ("B2N", "new"): False,
        ("FS", "all"): True,
        ("CD", "all"): True,  # the source itself
    }


def test_across_data_sets_the_class_token_answers(trained, toy, tmp_path):
    config_file = trained / "config.yaml"
    config_file.write_text(config_file.read_text().replace("ColoredShapes", "ImageNet"))
    trainer = build(command(toy, "MMRL", tmp_path / "e", opts=("TASK", "CD")))
    trainer.load_model(str(trained))
    assert not trainer.seen
