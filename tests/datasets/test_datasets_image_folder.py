"""ImageFolder: one's own pictures."""

import json
import os
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from tests.datasets.test_datasets import fill, load, paths, sizes
from tests.datasets.test_datasets_missing import missing_text


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
    assert f"2 images are not in {folder / 'split.json'}" in capsys.readouterr().out
    gone = Path(dataset.test[0].impath)
    gone.unlink()
    with pytest.raises(ValueError, match=f"1 images .* gone, first {gone.parent.name}/") as error:
        load_own(folder)
    (command,) = re.findall(r"\((mv .*)\)", str(error.value))
    subprocess.run(command, shell=True, check=True)
    assert sum(sizes(load_own(folder))) == 31
    assert json.loads((folder / "split.json.old").read_text()) == record


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


@pytest.mark.parametrize("text", ["beech a b\roak tree\tc d\r", "oak tree\tc d\nbeech\u00a0a b\n"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_classnames_file_of_another_editor(tmp_path, text, encoding):
    folder = own_folder(tmp_path)
    (folder / "classnames.txt").write_text(text, encoding, newline="")
    assert load_own(folder).classnames == ["a b", "fir", "c d"]


@pytest.mark.parametrize(("on_disk", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_one_letter_or_two(tmp_path, on_disk, written):
    """macOS takes accents apart: that changes neither which folder is meant nor their order."""
    for name in ("chêne", "chez", "châtaignier"):
        fill(tmp_path / unicodedata.normalize(on_disk, name), 4)
    text = unicodedata.normalize(written, "chêne the oak\n")
    (tmp_path / "classnames.txt").write_text(text, encoding="utf-8")
    third = unicodedata.normalize(on_disk, "châtaignier")
    assert load_own(tmp_path).classnames == ["chez", third, "the oak"]


def test_classnames_file_names_a_folder_twice(tmp_path):
    folder = own_folder(tmp_path)
    (folder / "classnames.txt").write_text("beech a\n\nfir b\nbeech c\n")
    with pytest.raises(ValueError, match=r"line 4: .*'beech' was named in line 1 already; leave"):
        load_own(folder)


@pytest.mark.parametrize(
    "parts",
    [("Train", "Test"), ("training", "testing"), ("TRAIN", "valid", "test")],
    ids=" ".join,
)
def test_other_words_for_the_parts(tmp_path, parts):
    dataset = load_own(own_folder(tmp_path, parts, count=2))
    assert sizes(dataset) == (6, 6 * (len(parts) - 2), 6)
    assert all(f"/{parts[-1]}/" in path for path in paths(dataset.test))


def test_classes_that_are_called_like_parts(tmp_path):
    for name in ("Training", "Testing"):
        fill(tmp_path / name, 4)
    assert load_own(tmp_path).classnames == ["Testing", "Training"]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (("train", "val", "valid", "test"), "val/ and valid/, which both mean val/"),
        (("train", "Train", "test"), "Train/ and train/, which both mean train/"),
        (("train", "test", "extra"), "beside them extra/: take these out"),
    ],
)
def test_parts_that_are_not_clear(tmp_path, parts, says):
    with pytest.raises(ValueError, match=says):
        load_own(own_folder(tmp_path, parts, count=2))


def test_what_systems_leave_is_no_class(tmp_path, capsys):
    folder = own_folder(tmp_path)
    for name in ("__MACOSX/fir", "lost+found", "fir/@eaDir/1.png", ".ipynb_checkpoints"):
        (folder / name).mkdir(parents=True)
    for name in (
        "__MACOSX/fir/1.png",
        "fir/Thumbs.db",
        "beech/desktop.ini",
        "fir/.DS_Store",
        "fir/@eaDir/1.png/x.png",
    ):
        (folder / name).touch()
    for _ in range(2):  # split anew, then compared with split.json
        assert sizes(load_own(folder)) == (15, 6, 9)
        said = [line for line in capsys.readouterr().out.splitlines() if "made a split" not in line]
        assert said == [f"ImageFolder: {folder}: __MACOSX: left out, not a class"]


def test_what_is_not_read_is_counted(tmp_path, capsys):
    folder = own_folder(tmp_path)
    fill(folder / "fir", 2, ".heic")
    fill(folder / "beech", 3, ".avif")
    fill(folder / "fir/summer", 4)
    fill(folder / "beech", 2, ".jfif")  # JPEG under another name
    assert sum(sizes(load_own(folder))) == 32
    told = capsys.readouterr().out
    assert "folders of class folders: 4 fir/summer/" in told
    assert "not read: 3 .avif, 2 .heic (read are .jpg" in told


def test_nested_class_folders_are_named(tmp_path):
    folder = own_folder(tmp_path)
    for season in ("summer", "winter"):
        fill(folder / "elm" / season, 3)
    says = r"elm holds no images itself, .* move them up, .* \(3 elm/summer/, 3 elm/winter/\)"
    with pytest.raises(ValueError, match=says):
        load_own(folder)


@pytest.mark.parametrize("divided", [False, True], ids=["classes", "train and test"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        (b"caf\xe9", r"has the name b'caf\\xe9', which is not UTF-8, .*-f LATIN1 -t UTF-8 '.*"),
        ("橡树".encode("gbk"), r"which is not UTF-8, .*-f GBK -t"),
        (b"oak\ttree", r"has the name 'oak\\ttree', with a control character; rename"),
        (b"oak\n", r"with a control character; rename"),
    ],
    ids=["Latin-1", "GBK", "tab", "newline"],
)
def test_names_that_cannot_be_written_down(tmp_path, name, says, divided):
    folder = own_folder(tmp_path, ("train", "test") if divided else ("",))
    top = folder / "train" if divided else folder
    os.mkdir(os.fsencode(top) + b"/" + name)
    with pytest.raises(ValueError, match=says):
        load_own(folder)
    os.rename(os.fsencode(top) + b"/" + name, top / "elm")
    open(os.fsencode(top / "elm") + b"/" + name + b".png", "w").close()
    with pytest.raises(ValueError, match="has the name"):
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
    with pytest.raises(ValueError, match=r"beach holds no images; it has 1 .heic: convert .*.jpg"):
        load_own(folder)
    (tmp_path / "flat").mkdir()
    fill(tmp_path / "flat", 3)
    with pytest.raises(ValueError, match="holds no class folders, but 3 images directly: put"):
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
