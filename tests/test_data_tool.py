"""`python -m tools.data`: list, verify, toy, and bringing a set into place from files."""

import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tools.data import download as download_module
from tools.data.__main__ import main
from tools.data.catalogue import Source, catalogue, find_entry
from tools.data.fetch import FetchError
from tools.data.survey import survey
from tools.data.toy import write_toy


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    write_toy(root, ["dtd", "ucf101", "imagenet_a"], classes=4, train=5, size=16)
    return root


@pytest.fixture
def root(drawn, tmp_path, monkeypatch):
    """A copy that a test may damage."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def run(capsys, *arguments):
    """Exit code, stdout and stderr."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ---------------------------------------------------------------- list and verify


def test_list_tells_states_and_numbers(root, capsys):
    (root / "dtd/images/stray").mkdir()
    (root / "eurosat").mkdir()
    code, out, _ = run(capsys, "list", "--root", root)
    lines = {line.split()[0]: line.split(None, 1)[1] for line in out.splitlines()[1:-1]}
    assert code == 1
    assert list(lines) == list(catalogue())
    assert lines["ucf101"].split(None, 1) == [
        "present",
        "4 classes: 20 train, 4 val, 12 test, drawn",
    ]
    assert lines["imagenet_a"].split(None, 1) == ["present", "2 classes: 6 test, drawn"]
    assert lines["dtd"].startswith("incomplete")
    assert lines["eurosat"].startswith("incomplete")
    published = "47 classes" if "drawn" not in lines["dtd"] else "4 classes"
    assert published in lines["dtd"]
    assert lines["food101"].startswith("missing     101 classes: 50,500 train")


def test_looking_leaves_no_split_file(root, capsys):
    assert run(capsys, "verify", "dtd", "ucf101", "--root", root)[0] == 0
    assert not list(root.rglob("split_*"))


def test_verify_all_needs_all(root, capsys):
    code, out, _ = run(capsys, "verify", "all", "--root", root)
    assert code == 1
    assert "ucf101: ok, 4 classes: 20 train, 4 val, 12 test (split made here" in out
    assert "imagenet_a: ok, 2 classes: 6 test\n" in out
    assert f"{root / 'sun397'} is not there" in out
    assert "12 of 15 not in order" in out


def test_verify_names_the_first_bad_files(root, capsys):
    save_split(root)
    pictures = sorted((root / "dtd/images").rglob("*.jpg"))
    for picture in pictures[:6]:
        picture.unlink()
    pictures[6].write_bytes(b"")
    code, out, _ = run(capsys, "verify", "dtd", "--root", root)
    assert code == 1
    assert "7 of 40 images are missing or empty" in out
    assert all((str(picture) in out) == (n < 5) for n, picture in enumerate(pictures[:7]))
    assert ".. and 2 more" in out


def save_split(root):
    """What a training run does first."""
    from types import SimpleNamespace

    from datasets.dtd import DescribableTextures

    options = SimpleNamespace(ROOT=str(root), NUM_SHOTS=-1)
    DescribableTextures(SimpleNamespace(DATASET=options, SEED=1))


def test_only_deep_finds_damaged_pictures(root, capsys):
    picture = min((root / "dtd/images").rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes()[:200])
    assert run(capsys, "verify", "dtd", "--root", root)[0] == 0
    code, out, _ = run(capsys, "verify", "DescribableTextures", "--deep", "--root", root)
    assert code == 1
    assert f"1 of 40 images are damaged:\n      {picture}" in out


def test_verify_tells_wrong_numbers_and_split_files(root, capsys):
    (root / "dtd/drawn_with.json").unlink()  # from now on it passes for the real data set
    code, out, _ = run(capsys, "verify", "dtd", "--root", root)
    assert code == 1
    assert "expected 47 classes: 2,820 train, 1,128 val, 1,692 test" in out
    assert "found 4 classes: 20 train, 8 val, 12 test" in out
    (root / "dtd/split_zhou_DescribableTextures.json").write_text("{")
    code, out, _ = run(capsys, "verify", "dtd", "--root", root)
    assert code == 1
    assert "is not valid JSON" in out


def test_root_comes_from_the_environment(root, capsys, monkeypatch):
    monkeypatch.setenv("DATA", str(root))
    assert run(capsys, "verify", "ucf101")[0] == 0
    monkeypatch.delenv("DATA")
    monkeypatch.chdir(root.parent)
    assert run(capsys, "verify", "ucf101")[0] == 0  # data/


@pytest.mark.parametrize("command", ["verify", "download"])
def test_unknown_name(capsys, command):
    code, _, err = run(capsys, command, "oxfordpets2")
    assert code == 2
    assert "did you mean oxford_pets?" in err


def test_usage_errors_and_help(capsys):
    for arguments, code in ((["--help"], 0), ([], 2), (["verify"], 2), (["lost"], 2)):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == code
    assert "download" in capsys.readouterr().out


# ---------------------------------------------------------------- toy


def test_toy_leaves_what_is_there(root, capsys):
    marker = root / "dtd/images"
    before = marker.stat().st_mtime_ns
    assert run(capsys, "toy", root, "dtd", "--classes", 4, "--train", 5)[0] == 0
    assert marker.exists()
    (root / "eurosat").mkdir()
    code, _, err = run(capsys, "toy", root, "eurosat", "--classes", 4, "--train", 5)
    assert code == 2
    assert "eurosat exists" in err
    assert before


@pytest.mark.parametrize(("flag", "value"), [("--classes", 1), ("--classes", 101), ("--train", 7)])
def test_toy_amounts(tmp_path, capsys, flag, value):
    code, _, err = run(capsys, "toy", tmp_path, flag, value)
    assert code == 2
    assert "allowed" in err
    assert not list(tmp_path.iterdir())


def test_toy_has_sixteen_shots_by_default(tmp_path):
    (folder,) = write_toy(tmp_path, ["eurosat"], size=8)
    assert survey(find_entry("eurosat"), tmp_path).found == (8, 160, 64, 96)
    assert folder == tmp_path / "eurosat"


# ---------------------------------------------------------------- download --from


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
    monkeypatch.setattr(download_module, "fetch_drive", refuse)


def test_files_that_the_user_has(drawn, tmp_path, capsys, no_network):
    archive = zipped(
        tmp_path / "UCF-101-midframes.zip", drawn / "ucf101/UCF-101-midframes", "UCF-101-midframes/"
    )
    lists = zipped(tmp_path / "lists (1).zip", drawn / "ucf101", "somewhere/ucf101/")
    split = tmp_path / "split_zhou_UCF101 (2).json"
    split.write_text("{}")
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
    """Caltech's zip holds a tar.gz with the pictures."""
    inner = tmp_path / "in/caltech-101"
    inner.mkdir(parents=True)
    with tarfile.open(inner / "101_ObjectCategories.tar.gz", "w:gz") as file:
        (tmp_path / "picture").touch()
        file.add(tmp_path / "picture", "101_ObjectCategories/ant/1.jpg")
    archive = zipped(tmp_path / "caltech-101.zip", tmp_path / "in")
    run(capsys, "download", "caltech101", "--root", tmp_path, "--from", archive)
    assert (tmp_path / "caltech-101/101_ObjectCategories/ant/1.jpg").is_file()
    assert [path.name for path in (tmp_path / "caltech-101").iterdir()] == ["101_ObjectCategories"]


def test_stanford_cars_says_what_to_do_by_hand(tmp_path, capsys, no_network):
    code, _, err = run(capsys, "download", "stanford_cars", "--root", tmp_path)
    assert code == 1
    assert "https://github.com/pytorch/vision/issues/7545" in err
    assert "cars_train.tgz: cannot be downloaded by this tool" in err


def test_catalogue_is_whole():
    assert len(catalogue()) == 15
    for entry in catalogue().values():
        assert entry.sources
        assert all(len(source.md5) in (0, 32) for source in entry.sources)
        assert all(not (source.url and source.drive) for source in entry.sources)
    ids = {source.drive for entry in catalogue().values() for source in entry.sources}
    assert len(ids - {""}) == 12
    assert Source("a.zip", {}, drive="ID").web_page == "https://drive.google.com/file/d/ID/view"


def test_drive_that_refuses_is_a_clear_problem(tmp_path, capsys, monkeypatch):
    class Blocked:
        @staticmethod
        def download(**arguments):
            raise RuntimeError("Cannot retrieve the public link of the file.\n  Too many users")

    def fetch_rubbish(url, target, md5):
        target.parent.mkdir()
        target.write_bytes(b"no archive")

    monkeypatch.setitem(sys.modules, "gdown", Blocked)
    monkeypatch.setattr(download_module, "fetch", fetch_rubbish)
    code, _, err = run(capsys, "download", "imagenet_a", "--root", tmp_path)
    assert code == 1
    assert "classnames.txt: Google Drive: Cannot retrieve the public link of the file. Too" in err
    assert "is damaged or cut short" in err
    assert not list((tmp_path / "imagenet-adversarial").iterdir())


def test_error_page_instead_of_a_split_file(tmp_path, capsys, no_network):
    (tmp_path / "dtd/images").mkdir(parents=True)
    page = tmp_path / "split_zhou_DescribableTextures.json"
    page.write_text("<html>Too many users have viewed this file</html>")
    code, _, err = run(capsys, "download", "dtd", "--root", tmp_path, "--from", page)
    assert code == 2
    assert "is not a JSON file" in err
    assert page.exists()
    assert [path.name for path in (tmp_path / "dtd").iterdir()] == ["images"]


def test_drive_files_get_into_place(tmp_path, capsys, monkeypatch):
    class Drive:
        @staticmethod
        def download(id, output, **options):
            Path(output).write_text(json.dumps({"id": id}))
            return output

    monkeypatch.setitem(sys.modules, "gdown", Drive)
    (tmp_path / "dtd/images").mkdir(parents=True)
    assert run(capsys, "download", "dtd", "--root", tmp_path)[0] == 0
    split = json.loads((tmp_path / "dtd/split_zhou_DescribableTextures.json").read_text())
    assert split == {"id": "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"}
    assert not (tmp_path / "dtd/.downloads").exists()
