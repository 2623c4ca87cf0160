"""The command `train.py`: what it refuses, what it leaves behind, how it goes on."""

import json
import os
import subprocess
import sys
from shutil import copytree

import pytest
import torch

import train
from tests.helpers.toy_run import REPO, build, command, refused
from training.trainer import CLIPTrainer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("TASK", ""), "TASK is ''; allowed are B2N"),
        (("TRAINER.MMRL.REGWEIGHT", "1"), "did you mean TRAINER.MMRL.REG_WEIGHT?"),
        (("OPTIM.LR",), "'OPTIM.LR' stands alone"),
        (("OPTIM.LR", "fast"), "OPTIM.LR cannot be 'fast'"),
        (("OPTIM.MAX_EPOCH", "1.5"), "OPTIM.MAX_EPOCH cannot be '1.5'"),
        (("DATASET.SUBSAMPLE_CLASSES", "old"), "SUBSAMPLE_CLASSES"),
        (("DATASET.NAME", "ColoredShape"), "ColoredShapes"),
        (("OPTIM.NAME", "adamv"), "adamw"),
        (("TRAINER.NAME", "MMLR"), "MMRL"),
        (("--trainr", "MMRL"), "unknown flag '--trainr'"),
        (("INPUT.TRANSFORMS", "['random_flop']"), "random_flip"),
        (("DATASET.ROOT", "/nowhere"), "make demo"),
    ],
)
def test_wrong_input(change, message, toy, tmp_path, capsys):
    assert message in refused(capsys, command(toy, "MMRL", tmp_path / "r", opts=change))


@pytest.mark.parametrize("content", ["a: [", "- just\n- a list\n", "OPTIM: {LRR: 3}"])
def test_wrong_yaml_names_the_file(content, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text(content)
    message = refused(capsys, ["--trainer", "MMRL", "--config-file", str(tmp_path / "bad.yaml")])
    assert "bad.yaml" in message


def test_a_missing_yaml_lists_its_neighbours(capsys):
    file = REPO / "configs/trainers/MMRL/vit_b61.yaml"
    message = refused(capsys, ["--trainer", "MMRL", "--config-file", str(file)])
    assert "no config file" in message and "vit_b16.yaml" in message


def test_debug_shows_the_traceback(toy, tmp_path):
    with pytest.raises(ValueError, match="TASK"):
        train.main(["--debug", *command(toy, "MMRL", tmp_path, opts=("TASK", ""))])


def test_a_run_is_continued_only_under_its_own_config(trained, toy, capsys):
    message = refused(capsys, command(toy, "MMRL", trained, opts=("OPTIM.LR", "0.5")))
    assert "OPTIM.LR: 0.001 there, 0.5 now" in message
    more = command(toy, "MMRL", trained, opts=("TRAIN.CHECKPOINT_FREQ", "1"))
    assert train.main(more) == 0  # the same command again: resumed, tested again


def test_a_refused_repetition_changes_nothing(trained, toy, tmp_path, capsys):
    output = tmp_path / "e"
    flags = ("--eval-only", "--model-dir", str(trained))
    assert train.main(command(toy, "MMRL", output, *flags)) == 0
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    flags = ("--eval-only", "--model-dir", str(tmp_path / "nowhere"))
    refused(capsys, command(toy, "MMRL", output, *flags, opts=("SEED", "2")))
    after = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    assert before == after


def test_a_failed_repetition_leaves_no_result_of_before(trained, toy, tmp_path, monkeypatch):
    output = tmp_path / "e"
    arguments = command(toy, "MMRL", output, "--eval-only", "--model-dir", str(trained))
    assert train.main(arguments) == 0

    def fail(self):
        raise OSError("the pictures are gone")

    monkeypatch.setattr(CLIPTrainer, "test", fail)
    assert train.main(arguments) == 2
    assert not (output / "results.json").exists()


def test_a_config_may_change_before_anything_was_saved(toy, tmp_path):
    assert train.main(command(toy, "MMRL", tmp_path, "--no-train")) == 0
    assert train.main(command(toy, "MMRL", tmp_path, opts=("OPTIM.LR", "0.5"))) == 0


def test_an_interrupted_run_ends_as_an_uninterrupted_one(toy, tmp_path):
    """Two epochs at once, or one, a stop, and the other: the same weights."""

    def state(folder):
        file = folder / "MultiModalRepresentationLearner" / "model.pth.tar-2"
        return torch.load(file, weights_only=True)["state_dict"]

    once, twice = tmp_path / "once", tmp_path / "twice"
    assert train.main(command(toy, "MMRL", once)) == 0
    stopped = build(command(toy, "MMRL", twice, opts=("TRAIN.CHECKPOINT_FREQ", "1")))

    def stop():
        raise KeyboardInterrupt

    stopped.before_epoch = lambda: stop() if stopped.epoch == 1 else None
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert train.main(command(toy, "MMRL", twice)) == 0
    assert all(torch.equal(value, state(twice)[key]) for key, value in state(once).items())


def test_no_train_builds_and_stops(toy, tmp_path):
    assert train.main(command(toy, "MMRL", tmp_path, "--no-train")) == 0
    assert (tmp_path / "config.yaml").is_file()
    assert not (tmp_path / "results.json").exists()


def test_seed_zero_is_a_seed(toy, tmp_path):
    weights = []
    for part in ("a", "b"):
        arguments = command(toy, "MMRL", tmp_path / part)
        arguments[arguments.index("--seed") + 1] = "0"
        assert train.main(arguments) == 0
        file = tmp_path / part / "MultiModalRepresentationLearner" / "model.pth.tar-2"
        weights.append(torch.load(file, weights_only=True)["state_dict"]["rep_tokens"])
    assert torch.equal(*weights)
    assert json.loads((tmp_path / "a" / "results.json").read_text())["seed"] == 0


def test_help_does_not_wait_for_torch():
    program = (
        "import sys, train; train.parse_args(['--trainer', 'MMRL']); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_that_is_gone_or_not_utf8_costs_no_result(encoding, toy, tmp_path, monkeypatch):
    """Names that it cannot show are printed after the test and before the results are written."""
    names = {"red_square": "chêne", "blue_square": "木"}
    for source, name in names.items():
        copytree(toy / "colored_shapes/images" / source, tmp_path / "own" / name)
    own = ("DATASET.NAME", "ImageFolder", "DATASET.PATH", str(tmp_path / "own"))
    opts = (*own, "DATASET.SUBSAMPLE_CLASSES", "all", "TEST.PER_CLASS_RESULT", "True")
    read, write = os.pipe()
    if encoding == "ascii":
        os.close(read)  # head -1 has read enough
    with open(write, "w", encoding=encoding) as console:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, console)
        status = train.main(command(toy, "ZeroshotCLIP", tmp_path / "run", opts=opts))
    assert status == 0
    assert json.loads((tmp_path / "run/results.json").read_text())["total"] > 0
    assert "(木)" in (tmp_path / "run/log.txt").read_text(encoding="utf-8")
    if encoding == "latin-1":
        with open(read, "rb") as printed:
            assert "(chêne)" in (told := printed.read().decode(encoding)) and "\\u6728" in told
