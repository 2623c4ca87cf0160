"""The command `train.py`: what its flags mean, what it refuses, what it leaves behind."""

import json
import re
import subprocess
import sys

import pytest
import torch
import yaml

import train
from experiment.config import build_config, default_config, read_yaml
from tests.toy_run import REPO, build, command, variant
from trainers.base import CLIPTrainer


def config(*arguments):
    return build_config(train.parse_args(list(arguments)))


def refused(capsys, arguments) -> str:
    """The message of a command that must fail; no traceback, one screen."""
    assert train.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") < 25
    return message


@pytest.fixture
def trained(toy, tmp_path):
    """A finished run of two epochs that kept both."""
    output = tmp_path / "run"
    assert train.main(command(toy, "MMRL", output, opts=("TRAIN.CHECKPOINT_FREQ", "1"))) == 0
    return output


# What counts in the config


def test_order_of_sources(tmp_path):
    """Defaults < data set < trainer YAML < per_dataset.yaml < flags < KEY VALUE."""
    folder = tmp_path / "MMRL"
    folder.mkdir()
    (folder / "mine.yaml").write_text("OPTIM: {LR: 0.5, MAX_EPOCH: 7}\nTEST: {SPLIT: val}\n")
    (folder / "per_dataset.yaml").write_text(
        "B2N: {EuroSAT: {OPTIM.LR: 0.6, OPTIM.MAX_EPOCH: 8, TRAINER.MMRL.REG_WEIGHT: 2}}"
    )
    (tmp_path / "eurosat.yaml").write_text("DATASET: {NAME: EuroSAT}\nTEST: {SPLIT: test}\n")
    cfg, notes = config(
        *("--dataset-config-file", str(tmp_path / "eurosat.yaml"), "--trainer", "MMRL"),
        *("--config-file", str(folder / "mine.yaml"), "--train-epoch", "9"),
        *("TASK", "B2N", "TRAINER.MMRL.REG_WEIGHT", "3"),
    )
    assert cfg.TEST.SPLIT == "val"
    assert cfg.OPTIM.LR == 0.6
    assert cfg.OPTIM.MAX_EPOCH == 9
    assert cfg.TRAINER.MMRL.REG_WEIGHT == 3.0
    assert notes[0] == f"OPTIM.LR = 0.6 (from {folder / 'per_dataset.yaml'}, B2N, EuroSAT)"
    assert len(notes) == 3


@pytest.mark.parametrize("task", ["B2N", "FS"])
def test_eurosat_has_wide_tokens_except_across_data_sets(task):
    eurosat = ("--dataset-config-file", str(REPO / "configs/datasets/eurosat.yaml"))
    mmrl = ("--trainer", "MMRL", *eurosat, "--config-file")
    cfg, _ = config(*mmrl, str(variant("MMRL", "vit_b16")), "TASK", task)
    assert (cfg.TRAINER.MMRL.REP_DIM, cfg.TRAINER.MMRL.REG_WEIGHT) == (2048, 0.01)
    cfg, notes = config(*mmrl, str(variant("MMRL", "vit_b16_cross_datasets")), "TASK", "CD")
    assert (cfg.TRAINER.MMRL.REP_DIM, cfg.TRAINER.MMRL.REG_WEIGHT) == (512, 0.2)
    assert not notes


PUBLISHED = {  # dataset: MMRL lambda; MMRL++ beta, lambda; MMRL++ beta across data sets
    "ImageNet": (0.5, 0.9, 0.2, 0.9),
    "Caltech101": (0.5, 0.6, 3.0, 0.6),
    "OxfordPets": (0.2, 0.7, 0.01, 0.6),
    "StanfordCars": (7.0, 0.7, 6.0, 0.3),
    "OxfordFlowers": (4.0, 0.4, 7.0, 0.4),
    "Food101": (5.0, 0.1, 1.0, 0.3),
    "FGVCAircraft": (6.0, 0.9, 2.0, 0.9),
    "SUN397": (6.0, 0.5, 3.0, 0.7),
    "DescribableTextures": (6.0, 0.9, 7.0, 0.5),
    "EuroSAT": (0.01, 0.2, 0.01, 0.3),
    "UCF101": (3.0, 0.9, 3.0, 0.9),
}


@pytest.mark.parametrize("dataset", PUBLISHED)
@pytest.mark.parametrize("task", ["B2N", "FS"])
def test_per_dataset_tables_are_the_published_ones(dataset, task):
    mmrl_lambda, beta, plus_lambda, cross_beta = PUBLISHED[dataset]
    folder = REPO / "configs" / "trainers"
    mmrl = read_yaml(folder / "MMRL" / "per_dataset.yaml")[task][dataset]
    assert mmrl["TRAINER.MMRL.REG_WEIGHT"] == mmrl_lambda
    table = read_yaml(folder / "MMRLPlus" / "per_dataset.yaml")
    plus, node = table[task][dataset], "TRAINER.MMRLPLUS"
    assert (plus[f"{node}.BETA"], plus[f"{node}.REG_WEIGHT"]) == (beta, plus_lambda)
    assert table["CD"][dataset][f"{node}.BETA"] == cross_beta


@pytest.mark.parametrize("key", ["TRAINER.MMRLpp.BETA", "TRAINER.MMRLPLUS.BETA"])
def test_both_names_of_mmrl_plus_mean_the_same(key, toy, tmp_path):
    for name in ("MMRLPlus", "MMRLpp"):
        trainer = build(command(toy, name, tmp_path, opts=(key, "0.125")))
        assert trainer.method.beta == 0.125


def test_a_yaml_may_say_mmrlpp(tmp_path):
    (tmp_path / "public.yaml").write_text("TRAINER: {MMRLpp: {BETA: 0.25, REP_DIM: 64}}")
    cfg, _ = config("--trainer", "MMRLpp", "--config-file", str(tmp_path / "public.yaml"))
    assert (cfg.TRAINER.MMRLPLUS.BETA, cfg.TRAINER.MMRLPLUS.REP_DIM) == (0.25, 64)


def test_every_yaml_merges_and_there_are_as_many_as_expected():
    files = sorted((REPO / "configs" / "trainers").glob("*/*.yaml"))
    variants = [file for file in files if file.name != "per_dataset.yaml"]
    for file in variants:
        config("--trainer", file.parent.name, "--config-file", str(file))
    for file in set(files) - set(variants):
        for task, entries in read_yaml(file).items():
            for dataset in entries:
                opts = ("TASK", task, "DATASET.NAME", dataset)
                small = str(file.parent / "small.yaml")
                config("--trainer", file.parent.name, "--config-file", small, *opts)
    assert len([f for f in variants if f.parent.name.startswith("MMRL")]) == 10
    assert len(list((REPO / "configs" / "datasets").glob("*.yaml"))) == 17


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


# Testing only


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


# What it refuses, and what it leaves


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


def test_saved_config_is_of_this_trainer_and_can_be_used_again(trained):
    saved = yaml.safe_load((trained / "config.yaml").read_text())
    assert set(saved["TRAINER"]) == {"NAME", "MMRL"}
    cfg, _ = config("--config-file", str(trained / "config.yaml"))
    assert cfg.TRAINER.MMRL.REP_LAYERS == [2, 3]


def test_help_does_not_wait_for_torch():
    program = (
        "import sys, train; train.parse_args(['--trainer', 'MMRL']); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_importing_a_plugin_twice_is_harmless():
    assert default_config() == default_config()
