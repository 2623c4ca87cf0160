"""`python -m tools.data download`: bringing a set into place from files and archives."""

import json
import tarfile
import zipfile

import pytest

from tests.tools.data.test_data_tool import run
from tools.data import download as download_module
from tools.data import survey as survey_module
from tools.data.catalogue import catalogue
from tools.data.download import FetchError
from tools.data.toy import write_toy

SPLIT = json.dumps({part: [["a/1.jpg", 0, "a"]] for part in ("train", "val", "test")})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    write_toy(root, ["dtd", "ucf101"], classes=4, train=5, size=16)
    return root


def zipped(path, folder, prefix=""):
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(folder.rglob("*")):
            file.write(member, f"{prefix}{member.relative_to(folder)}")
    return path


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments):
        raise FetchError("no network here")

    monkeypatch.setattr(download_module, "fetch", refuse)


def test_files_that_the_user_has(drawn, tmp_path, capsys, no_network):
    archive = zipped(
        tmp_path / "UCF-101-midframes.zip", drawn / "ucf101/UCF-101-midframes", "UCF-101-midframes/"
    )
    lists = zipped(tmp_path / "lists (1).zip", drawn / "ucf101", "somewhere/ucf101/")
    split = tmp_path / "split_zhou_UCF101 (2).json"
    split.write_text(SPLIT)
    goal = tmp_path / "data"
    get = ("download", "ucf101", "--root", goal)
    code, _, err = run(capsys, *get, "--from", archive)
    assert code == 1
    assert "no network here" in err
    assert "https://drive.google.com/file/d/1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y/view" in err
    assert "--from FILE" in err
    assert len(err.splitlines()) < 20
    code, out, _ = run(capsys, *get, "--from", lists, "--from", split)
    assert code == 0
    assert "ucf101: complete" in out
    names = ["UCF-101-midframes", "split_zhou_UCF101.json", "ucfTrainTestlist"]
    assert sorted(path.name for path in (goal / "ucf101").iterdir()) == names
    assert archive.exists() and split.exists()
    assert run(capsys, *get)[0] == 0


def test_given_files_that_do_not_fit(tmp_path, capsys, no_network):
    get = ("download", "dtd", "--root", tmp_path, "--from")
    code, _, err = run(capsys, *get, tmp_path / "no.zip")
    assert (code, "there is no such file" in err) == (2, True)
    (tmp_path / "notes.txt").touch()
    code, _, err = run(capsys, *get, tmp_path / "notes.txt")
    assert code == 2
    assert "dtd takes files named dtd-r1.0.1.tar.gz, split_zhou_DescribableTextures.json" in err
    (tmp_path / "empty").mkdir()
    code, _, err = run(capsys, *get, zipped(tmp_path / "other.zip", tmp_path / "empty"))
    assert code == 2
    assert "none of images, split_zhou_DescribableTextures.json is in it" in err


def test_archive_in_an_archive(tmp_path, capsys, no_network):
    """Caltech's zip holds a tar.gz with the images."""
    inner = tmp_path / "in/caltech-101"
    inner.mkdir(parents=True)
    with tarfile.open(inner / "101_ObjectCategories.tar.gz", "w:gz") as file:
        (tmp_path / "image").touch()
        file.add(tmp_path / "image", "101_ObjectCategories/ant/1.jpg")
    archive = zipped(tmp_path / "caltech-101.zip", tmp_path / "in")
    run(capsys, "download", "caltech101", "--root", tmp_path, "--from", archive)
    assert (tmp_path / "caltech-101/101_ObjectCategories/ant/1.jpg").is_file()
    assert [path.name for path in (tmp_path / "caltech-101").iterdir()] == ["101_ObjectCategories"]


def test_stanford_cars_says_what_to_do_by_hand(tmp_path, capsys, no_network):
    code, _, err = run(capsys, "download", "stanford_cars", "--root", tmp_path)
    assert code == 1
    assert "https://github.com/pytorch/vision/issues/7545" in err
    assert "cars_train.tgz: cannot be downloaded by this tool" in err


def test_imagenets_archives_take_more_than_unpacking(tmp_path, capsys, no_network):
    archive = zipped(tmp_path / "ILSVRC2012_img_val.tar", tmp_path)
    code, _, err = run(capsys, "download", "imagenet", "--root", tmp_path, "--from", archive)
    assert code == 2
    assert "into images/val/nXXXXXXXX/" in err


def test_catalogue_is_whole():
    assert len(catalogue()) == 15
    sources = [source for entry in catalogue().values() for source in entry.sources]
    assert all(len(source.md5) in (0, 32) for source in sources)
    assert all(not (source.url and source.drive) for source in sources)
    assert len({source.drive for source in sources} - {""}) == 12


@pytest.mark.parametrize("packed", [False, True], ids=["file", "archive"])
@pytest.mark.parametrize(
    "content",
    [
        b"<html>Too many users have viewed this file</html>",
        b"{}",
        b'{"train": []',
        SPLIT.replace("a/1", "../1").encode(),
        SPLIT.replace("a/1", "\xe9").encode("latin-1"),
    ],
    ids=["error page", "no split", "cut off", "leads out", "another encoding"],
)
def test_what_training_would_refuse_is_not_taken(content, packed, tmp_path, capsys, no_network):
    (tmp_path / "dtd/images").mkdir(parents=True)
    given = tmp_path / "got/split_zhou_DescribableTextures.json"
    given.parent.mkdir()
    given.write_bytes(content)
    given = zipped(tmp_path / "all.zip", given.parent) if packed else given
    code, _, err = run(capsys, "download", "dtd", "--root", tmp_path, "--from", given)
    assert code == 2
    assert "is no split_zhou_DescribableTextures.json that can be used" in err
    assert given.exists()
    assert [path.name for path in (tmp_path / "dtd").iterdir()] == ["images"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_training_reads_is_taken(encoding, tmp_path, capsys, no_network):
    (tmp_path / "dtd/images/a").mkdir(parents=True)
    given = tmp_path / "split_zhou_DescribableTextures.json"
    given.write_text(SPLIT, encoding=encoding)
    assert run(capsys, "download", "dtd", "--root", tmp_path, "--from", given)[0] == 0
    assert survey_module.load(catalogue()["dtd"], tmp_path).classnames == ["a"]


def test_lists_are_checked_too(tmp_path, capsys, no_network):
    for config, name in (("imagenet_a", "classnames.txt"), ("oxford_flowers", "cat_to_name.json")):
        (tmp_path / name).write_text("<html>")
        code, _, err = run(
            capsys, "download", config, "--root", tmp_path, "--from", tmp_path / name
        )
        assert code == 2
        assert f"is no {name} that can be used" in err
