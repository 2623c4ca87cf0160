"""`python -m tools.data`: list, verify, toy, and bringing a set into place from files."""

import shutil
from pathlib import Path

import pytest

from tools.data.__main__ import main
from tools.data.catalogue import catalogue
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
    (root / "dtd/drawn_with.json").unlink()  # from now on it passes for the real dataset
    code, out, _ = run(capsys, "verify", "dtd", "--root", root)
    assert code == 1
    assert "expected 47 classes: 2,820 train, 1,128 val, 1,692 test" in out
    assert "found 4 classes: 20 train, 8 val, 12 test" in out
    (root / "dtd/split_zhou_DescribableTextures.json").write_text("{")
    code, out, _ = run(capsys, "verify", "dtd", "--root", root)
    assert code == 1
    assert "is not valid JSON" in out


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
