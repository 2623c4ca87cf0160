"""What users read when data is not where it was looked for."""

import os
from pathlib import Path

import pytest

from tests.datasets.test_datasets import fill, load


def missing_text(config, root, **options):
    with pytest.raises(FileNotFoundError) as error:
        load(config, root, **options)
    text = str(error.value)
    assert len(text.splitlines()) <= 12
    assert "make demo" in text
    assert "docs/DATASETS.md" in text
    return text


def test_missing_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = missing_text("dtd", "no_such")
    assert "the data root does not exist" in text
    assert max(map(len, text.replace(str(tmp_path), "").splitlines())) < 100
    assert str(tmp_path / "no_such") in text
    assert "--root no_such" in text
    assert "python -m tools.data download dtd --root no_such" in text


def test_missing_folder_of_the_data_set(tmp_path):
    (tmp_path / "eurosat").mkdir()
    text = missing_text("dtd", tmp_path)
    assert "the data root has no folder dtd; its folders: eurosat" in text
    assert str(tmp_path / "dtd") in text
    (tmp_path / "Caltech_101").mkdir()
    assert "did you mean its folder 'Caltech_101'?" in missing_text("caltech101", tmp_path)


def test_root_that_is_the_data_set_itself(tmp_path):
    fill(tmp_path / "dtd/images/lined", 4)
    assert "must be the directory of dtd/" in missing_text("dtd", tmp_path / "dtd")


def test_missing_images(tmp_path):
    (tmp_path / "dtd").mkdir()
    assert "dtd/ is there, the images in images/ are not" in missing_text("dtd", tmp_path)
    (tmp_path / "dtd/images").mkdir()
    assert "the directory is empty" in missing_text("dtd", tmp_path)
    fill(tmp_path / "stanford_cars/cars_train", 1)
    assert "images in cars_test/ are not" in missing_text("stanford_cars", tmp_path)


def test_missing_annotations(tmp_path):
    fill(tmp_path / "oxford_pets/images", 1)
    text = missing_text("oxford_pets", tmp_path)
    assert "split_zhou_OxfordPets.json is missing, and so is annotations/trainval.txt" in text
    fill(tmp_path / "colored_shapes/images/red_circle", 1)
    text = missing_text("colored_shapes", tmp_path)
    assert "split_zhou_ColoredShapes.json is missing" in text
    assert f"python -m tools.toy {tmp_path}" in text


def test_empty_root():
    with pytest.raises(ValueError, match="--root FOLDER"):
        load("dtd", "")


def test_a_root_whose_name_is_not_utf8(tmp_path):
    root = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    fill(Path(root) / "dtd/images/banded", 4)
    with pytest.raises(ValueError, match=r"caf\\udce9/dtd' has a name that is not UTF-8.*ln -s"):
        load("dtd", root)
    (tmp_path / "link").symlink_to(root)
    assert load("dtd", tmp_path / "link").classnames == ["banded"]
