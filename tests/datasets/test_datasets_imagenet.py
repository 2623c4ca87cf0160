"""ImageNet and its variants: listings, class names, and CoOp's listing."""

import os
import pickle
import shutil
from pathlib import Path

import pytest

from dassl.data.datasets import Datum
from datasets import _cache
from tests.datasets.test_datasets import CLASSES, TRAIN, fill, load, paths
from tools.data.toy import toy_names, write_toy


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    write_toy(root, ["imagenet", "imagenet_sketch", "dtd"], classes=CLASSES, train=TRAIN, size=16)
    return root


def test_imagenet_lists_its_folders_once(drawn, monkeypatch):
    load("imagenet", drawn, 2)
    monkeypatch.setattr(_cache, "list_images", lambda folder: pytest.fail(f"listed {folder}"))
    load("imagenet", drawn, 2)


def test_images_are_not_looked_at(drawn, monkeypatch):
    """No stat of any picture: with a million files on a network disk that takes minutes."""
    load("imagenet", drawn)
    load("dtd", drawn)
    real_stat = os.stat

    def stat(path, **kw):
        assert not str(path).endswith((".jpg", ".JPEG")), path
        return real_stat(path, **kw)

    monkeypatch.setattr(os, "stat", stat)
    load("imagenet", drawn)
    load("dtd", drawn)


def test_variants_share_imagenets_classnames(drawn, tmp_path):
    shutil.copytree(drawn / "imagenet-sketch", tmp_path / "imagenet-sketch")
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet-sketch/classnames.txt").rename(tmp_path / "imagenet/classnames.txt")
    assert load("imagenet_sketch", tmp_path).classnames == toy_names("imagenet", CLASSES)
    (tmp_path / "imagenet/classnames.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"classnames.txt is missing"):
        load("imagenet_sketch", tmp_path)


def test_imagenetv2_folders_are_positions_not_strings(tmp_path):
    folder = tmp_path / "imagenetv2"
    for position in range(12):
        fill(folder / "imagenetv2-matched-frequency-format-val" / str(position), 1, ".jpeg")
    lines = [f"n{90000000 + position} name {position}\n" for position in range(12)]
    (folder / "classnames.txt").write_text("".join(reversed(lines)))  # its order does not matter
    dataset = load("imagenetv2", tmp_path)
    assert dataset.classnames == [f"name {position}" for position in range(12)]
    assert all(Path(d.impath).parent.name == str(d.label) for d in dataset.test)


def test_imagenet_with_unsorted_validation_images(drawn, tmp_path):
    shutil.copytree(drawn / "imagenet", tmp_path / "imagenet")
    val = tmp_path / "imagenet/images/val"
    shutil.rmtree(val)
    fill(val, 3, ".JPEG")
    with pytest.raises(ValueError, match="must be sorted into one folder per class"):
        load("imagenet", tmp_path)


def renamed(items):
    """The images under names that no file has."""
    places = [Path(item.impath) for item in items]
    return [
        Datum(str(place.with_name(f"x_{place.name}")), item.label, 0, item.classname)
        for place, item in zip(places, items, strict=True)
    ]


@pytest.mark.parametrize("change", ["utf-8-sig", "utf-16", "CR", "order"])
def test_classnames_that_an_editor_saved(drawn, tmp_path, change):
    shutil.copytree(drawn / "imagenet", tmp_path / "imagenet")
    path = tmp_path / "imagenet/classnames.txt"
    lines = path.read_text().splitlines()
    lines = lines[::-1] if change == "order" else lines
    text = ("\r" if change == "CR" else "\n").join(lines)
    path.write_bytes(text.encode(change if change.startswith("utf") else "utf-8"))
    assert load("imagenet", tmp_path).classnames == toy_names("imagenet", CLASSES)
    path.write_text(f"{path.read_text('utf-8')}\n{lines[1]} again" if change == "CR" else "n1 a")
    with pytest.raises(
        ValueError, match=r"line 6: .* in line 2 already|classnames.txt has no line"
    ):
        load("imagenet", tmp_path)


def test_imagenet_uses_coops_listing(drawn, tmp_path):
    shutil.copytree(drawn / "imagenet", tmp_path / "imagenet")
    dataset = load("imagenet", tmp_path)
    for datum in dataset.train_x + dataset.test:
        datum._impath = datum._impath.replace(str(tmp_path), "/gone")
    content = {"train": dataset.train_x[:-1], "test": dataset.test}
    listing = tmp_path / "imagenet/preprocessed.pkl"
    listing.write_bytes(pickle.dumps(content))
    again = load("imagenet", tmp_path)
    assert len(again.train_x) == len(dataset.train_x) - 1
    assert all(os.path.isfile(path) for path in paths(again.train_x + again.test))
    for train, test, says in (
        (dataset.train_x, [], "'test' is empty"),
        (dataset.train_x[TRAIN:], dataset.test, "label 0 has no training image"),
        (renamed(dataset.train_x), dataset.test, "lists images that are not there, as .*/x_"),
    ):
        listing.write_bytes(pickle.dumps({"train": train, "test": test}))
        with pytest.raises(ValueError, match=rf"preprocessed\.pkl .*{says}.* \(mv .*listed again"):
            load("imagenet", tmp_path)
    listing.write_bytes(pickle.dumps({"train": [os.getcwd], "test": []}))
    with pytest.raises(ValueError, match=r"preprocessed\.pkl is not a cache"):
        load("imagenet", tmp_path)
