"""ImageFolder: one's own pictures."""

import json
import shutil
from pathlib import Path

import pytest

from tests.test_datasets import fill, load, paths, sizes
from tests.test_datasets_missing import missing_text


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


def own_folder(tmp_path, parts=("",), count=10):
    folder = tmp_path / "my pictures"
    for part in parts:
        for name in ("oak tree", "beech", "fir"):
            fill(folder / part / name, count, ".PNG")
    return folder


def load_own(path, root="", **options):
    return load("image_folder", root, PATH=str(path), **options)


def test_one_level_is_split_once(tmp_path, capsys):
    folder = own_folder(tmp_path)
    dataset = load_own(folder, TEMPLATE="a leaf of {}.")
    assert dataset.classnames == ["beech", "fir", "oak tree"]
    assert sizes(dataset) == (15, 6, 9)
    assert dataset.template == "a leaf of {}."
    record = json.loads((folder / "split.json").read_text())
    assert [len(record[part]) for part in record] == [15, 6, 9]
    fill(folder / "fir", 12, ".PNG")
    assert paths(load_own(folder).train_x) == paths(dataset.train_x)
    assert "2 pictures are not in its split" in capsys.readouterr().out
    gone = Path(dataset.test[0].impath)
    gone.unlink()
    with pytest.raises(ValueError, match=f"1 pictures .* are gone, first {gone.parent.name}/"):
        load_own(folder)


def test_one_level_serves_shots_and_halves(tmp_path):
    folder = own_folder(tmp_path)
    assert load_own(folder, shots=2, subsample="base").classnames == ["beech", "fir"]
    assert sizes(load_own(folder, shots=2, subsample="new")) == (2, 2, 3)
    assert load_own(folder, shots=2).num_classes == 3  # split_fewshot/ is no class


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val", "test")])
def test_ready_made_parts(tmp_path, parts):
    folder = own_folder(tmp_path, parts, count=2)
    dataset = load_own(folder)
    assert sizes(dataset) == (6, 6 if "val" in parts else 0, 6)
    assert all("/test/" in path for path in paths(dataset.test))
    assert not (folder / "split.json").exists()
    assert sizes(load_own(folder, shots=1)) == (3, 3 if "val" in parts else 0, 6)


def test_classnames_file(tmp_path):
    folder = own_folder(tmp_path)
    load_own(folder)
    (folder / "classnames.txt").write_text("beech a common beech\noak tree\tan old oak\n\n")
    assert load_own(folder).classnames == ["a common beech", "fir", "an old oak"]
    (folder / "classnames.txt").write_text("beach sand\n")
    with pytest.raises(ValueError, match="did you mean 'beech'"):
        load_own(folder)


def test_own_path_is_relative_to_here_or_to_the_root(tmp_path, monkeypatch):
    own_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert sizes(load_own("my pictures")) == (15, 6, 9)
    monkeypatch.chdir("/")
    assert sizes(load_own("my pictures", root=tmp_path)) == (15, 6, 9)


def test_own_folder_faults(tmp_path):
    with pytest.raises(ValueError, match=r"DATASET.PATH is empty"):
        load_own("")
    assert "there is no such folder" in missing_text("image_folder", "", PATH=str(tmp_path / "no"))
    folder = own_folder(tmp_path, ("train", "test"))
    shutil.rmtree(folder / "test")
    with pytest.raises(ValueError, match="there is train/ but no test/"):
        load_own(folder)
    fill(folder / "test/beach", 1)
    with pytest.raises(ValueError, match="test/ has the class folder 'beach', train/ has not"):
        load_own(folder)
    fill(folder / "train/beach", 1, ".heic")
    with pytest.raises(ValueError, match=r"beach holds no pictures \(.jpg"):
        load_own(folder)
    (tmp_path / "flat").mkdir()
    fill(tmp_path / "flat", 3)
    with pytest.raises(ValueError, match="holds no class folders"):
        load_own(tmp_path / "flat")


def test_read_only_own_folder_is_split_the_same_every_time(tmp_path, monkeypatch):
    folder = own_folder(tmp_path)
    real_open = open

    def refuse(path, mode="r", *args, **kw):
        if "x" in mode and str(path).startswith(str(folder)):
            raise PermissionError(13, "read-only", str(path))
        return real_open(path, mode, *args, **kw)

    monkeypatch.setattr("builtins.open", refuse)
    first, second = load_own(folder, shots=2), load_own(folder, shots=2)
    assert paths(first.train_x) == paths(second.train_x)
    assert not list(folder.rglob("*.json"))
