"""What a run is, and whether a folder holds it: settings, data, weights, and what was trained."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

import train
from common.safe_yaml import read_yaml
from dassl.data.datasets import Datum
from frozen_clip import file_hash, weights_hash
from run.data_hashes import data_hash
from run.flat import INCIDENTAL, flatten
from run.identity import differences
from tests.helpers.toy_run import command, refused

LEARNER = "MultiModalRepresentationLearner"


def record_of(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def evaluated(toy, weights, output, *flags, opts=()) -> dict:
    flags = ("--eval-only", "--model-dir", str(weights), *flags)
    assert train.main(command(toy, "MMRL", output, *flags, opts=opts)) == 0
    return record_of(output)


def test_a_record_says_what_was_run(run, toy):
    record, config = record_of(run), dict(flatten(read_yaml(run / "config.yaml")))
    assert record["settings"] == {k: v for k, v in config.items() if k not in INCIDENTAL}
    assert record["settings"]["OPTIM.MAX_EPOCH"] == 2 and "OUTPUT_DIR" not in record["settings"]
    weights = hashlib.sha256((toy / "narrow.pt").read_bytes()).hexdigest()
    assert record["weights_hash"] == weights
    assert len(record["data_hash"]) == len(record["fingerprint"]) == 64
    assert record["trained"] is record["trained_note"] is record["checkpoint_hash"] is None
    identity = json.loads((run / "identity.json").read_text())
    assert identity == {key: record[key] for key in identity}


def test_a_test_says_what_it_tested(run, toy, tmp_path):
    trained, record = record_of(run), evaluated(toy, run, tmp_path / "e")
    keys = ("settings", "plugins", "data_hash", "weights_hash", "fingerprint")
    assert record["trained"] == {key: trained[key] for key in keys}
    assert record["checkpoint_hash"] == file_hash(run / LEARNER / "model.pth.tar-2")
    assert (tmp_path / "e" / record["checkpoint"]["file"]).samefile(
        run / LEARNER / "model.pth.tar-2"
    )
    assert record["fingerprint"] != trained["fingerprint"]


def test_a_published_checkpoint_does_not_say_how_it_was_trained(run, toy, tmp_path):
    shutil.copytree(run / LEARNER, tmp_path / "public" / LEARNER)
    record = evaluated(toy, tmp_path / "public", tmp_path / "e")
    assert record["trained"] is None and "it does not say" in record["trained_note"]
    assert record["checkpoint_hash"] and record["fingerprint"]


def test_an_older_run_says_its_settings(run, toy, tmp_path):
    (run / "identity.json").unlink()
    trained = evaluated(toy, run, tmp_path / "e")["trained"]
    assert trained["settings"]["OPTIM.MAX_EPOCH"] == 2 and trained["data_hash"] is None


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", '{"settings": 1}'], ids=len)
def test_a_damaged_identity_is_none(text, run, toy, tmp_path):
    (run / "identity.json").write_text(text)
    with (run / "config.yaml").open("a") as file:
        file.write("SINCE: 2026-01-01\n")  # which JSON does not know
    trained = evaluated(toy, run, tmp_path / "e")["trained"]
    assert trained["settings"]["SINCE"] == "2026-01-01" and trained["fingerprint"] is None


def test_the_fingerprint_is_that_of_repetitions(run, toy, tmp_path):
    """Folders, file names and what is printed do not count; all that changes a result does."""
    shutil.copy(toy / "narrow.pt", tmp_path / "other_name.pt")
    first = evaluated(toy, run, tmp_path / "a")["fingerprint"]
    opts = ("TRAIN.PRINT_FREQ", "7", "MODEL.BACKBONE.NAME", str(toy / "narrow.pt"))
    assert evaluated(toy, run, tmp_path / "b", opts=opts)["fingerprint"] == first
    for name, flags, opts in (
        ("c", (), ("DATASET.SUBSAMPLE_CLASSES", "new")),
        ("d", ("--load-epoch", "2"), ()),
    ):
        other = evaluated(toy, run, tmp_path / name, *flags, opts=opts)
        assert other["fingerprint"] != first


# Hashes


def hashed(root="/data", label=0, name="cat", path="a/1.jpg", trains=True, **lists):
    item = Datum(f"{root}/set/{path}", label, classname=name)
    given = {"train_x": [item], "train_u": None, "val": None, "test": [item]} | lists
    dataset = SimpleNamespace(dataset_dir=f"{root}/set", **given)
    options = SimpleNamespace(
        DATASET=SimpleNamespace(ROOT=root), TEST=SimpleNamespace(SPLIT="test")
    )
    return data_hash(SimpleNamespace(dm=SimpleNamespace(dataset=dataset), cfg=options), trains)


@pytest.mark.parametrize(
    "change",
    [{"label": 1}, {"name": "dog"}, {"path": "a/2.jpg"}, {"test": []}, {"trains": False}],
    ids=str,
)
def test_the_hash_of_data_is_of_images_labels_names_and_lists(change):
    assert hashed() == hashed(root="/elsewhere") == hashed(val=[])
    assert hashed(**change) != hashed()


def test_a_test_hashes_what_it_is_tested_on():
    assert hashed(trains=False) == hashed(trains=False, train_x=[])


def test_the_hash_of_weights(toy, tmp_path):
    assert weights_hash("small") and weights_hash("small") != weights_hash(str(toy / "narrow.pt"))
    assert weights_hash("ViT-B/16", tmp_path) is None  # not downloaded
    assert weights_hash("resnet18") is None  # no CLIP
    file = tmp_path / "w.pt"
    file.write_text("a")
    first = file_hash(file)
    file.write_text("bc")
    assert file_hash(file) != first == hashlib.sha256(b"a").hexdigest()


# What differs


@pytest.mark.parametrize(
    ("there", "now", "expected"),
    [
        ({"A": 1}, {"A": 1}, []),
        ({"A": 1}, {"A": 2}, ["A: 1 there, 2 now"]),
        ({"OUTPUT_DIR": 1}, {"OUTPUT_DIR": 2}, []),
        ({}, {"NEW": 3}, []),  # no settings are known there
        ({"A": 1}, {"A": 1, "NEW": 0}, []),  # as it was before there was such a key
        ({"A": 1}, {"A": 1, "NEW": 3}, ["NEW: no such key there, 3 now"]),
        ({"A": 1, "OLD": 3}, {"A": 1}, ["OLD: 3 there, no such key now"]),
    ],
)
def test_settings_that_differ(there, now, expected):
    found = differences({"settings": there}, {"settings": now}, lambda: {"NEW": 0})
    assert found == expected


@pytest.mark.parametrize(("name", "lines"), [("ab", 0), (None, 1), ("cd", 2)])
def test_the_name_of_weights_counts_where_the_weights_are_unknown(name, lines):
    there = {"settings": {"MODEL.BACKBONE.NAME": "a.pt"}, "weights_hash": "ab"}
    now = {"settings": {"MODEL.BACKBONE.NAME": "b.pt"}, "weights_hash": name}
    assert len(differences(there, now, dict)) == lines


# What a folder holds


def test_a_run_is_not_continued_under_other_settings_data_or_weights(toy, run, tmp_path, capsys):
    def message(root=toy, opts=()):
        return refused(capsys, command(root, "MMRL", run, opts=opts))

    assert "OPTIM.LR: 0.001 there, 0.5 now. Choose another" in message(opts=("OPTIM.LR", "0.5"))
    other = shutil.copytree(toy, tmp_path / "other")
    split = other / "colored_shapes" / "split_zhou_ColoredShapes.json"
    split.write_text(split.read_text().replace("red circle", "crimson disc"))
    assert "the data (SHA-256): " in message(other)
    state = torch.load(toy / "narrow.pt", weights_only=True)
    state["state_dict"]["logit_scale"] += 1
    torch.save(state, tmp_path / "narrow.pt")
    opts = ("MODEL.BACKBONE.NAME", str(tmp_path / "narrow.pt"))
    assert "the weights of CLIP (SHA-256): " in message(opts=opts)
    assert record_of(run)["complete"]


def test_a_run_that_is_resumed_elsewhere_keeps_its_settings(run, toy, tmp_path, capsys):
    flags, opts = ("--resume", str(run)), ("OPTIM.LR", "0.5")
    message = refused(capsys, command(toy, "MMRL", tmp_path / "o", *flags, opts=opts))
    assert f"{run} already holds a run with another config: OPTIM.LR: 0.001 there" in message
    assert "or leave out --resume to train afresh" in message and not (tmp_path / "o").exists()
    assert train.main(command(toy, "MMRL", tmp_path / "o", *flags)) == 0
    assert train.main(command(toy, "MMRL", tmp_path / "p", opts=opts)) == 0  # as it says


def test_a_result_without_weights_is_not_replaced_by_that_of_another_run(toy, tmp_path, capsys):
    output = tmp_path / "zs"
    assert train.main(command(toy, "ZeroshotCLIP", output)) == 0
    assert train.main(command(toy, "ZeroshotCLIP", output)) == 0  # again: the same
    opts = ("DATASET.TEMPLATE", "a {}.")
    message = refused(capsys, command(toy, "ZeroshotCLIP", output, opts=opts))
    assert "DATASET.TEMPLATE: '' there, a {}. now" in message
    shutil.rmtree(output)  # as the message says
    assert train.main(command(toy, "ZeroshotCLIP", output, opts=opts)) == 0


def test_a_test_is_replaced_only_by_the_same_test(run, toy, tmp_path, capsys):
    output = tmp_path / "e"
    first = evaluated(toy, run, output)
    shutil.copytree(run, tmp_path / "again")  # trained again, with the same settings
    assert evaluated(toy, tmp_path / "again", output)["fingerprint"] == first["fingerprint"]
    flags = ("--eval-only", "--model-dir", str(run))
    for more, expected in (
        ((), "DATASET.SUBSAMPLE_CLASSES: base there, new now"),
        (("--load-epoch", "2"), "load_epoch: None there, 2 now"),
    ):
        opts = () if more else ("DATASET.SUBSAMPLE_CLASSES", "new")
        message = refused(capsys, command(toy, "MMRL", output, *flags, *more, opts=opts))
        assert expected in message and "delete its results.json" in message
    identity = json.loads((run / "identity.json").read_text())
    identity["settings"]["OPTIM.LR"] = 0.5
    (run / "identity.json").write_text(json.dumps(identity))
    message = refused(capsys, command(toy, "MMRL", output, *flags))
    assert "tests weights that were trained with OPTIM.LR: 0.001 there, 0.5 now" in message
    (output / "results.json").unlink()  # as the message says
    evaluated(toy, run, output)
