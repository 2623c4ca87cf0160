"""Split files: a good one is read, each wrong one is one clear error."""

import pytest

from tests.test_fewshot import SPLIT_NAME, edit_split, golden_root, load


@pytest.fixture
def root(tmp_path, monkeypatch):
    return golden_root(tmp_path, monkeypatch)


GOOD = {
    "train": [["a/1.jpg", 0, "a"], ["b/1.jpg", 1, "b"]],
    "val": [["a/2.jpg", 0, "a"]],
    "test": [["b/3.jpg", 1, "b"]],
}


def test_good_split_file_is_read(root):
    edit_split(root, lambda _: GOOD)
    assert load(root, -1).classnames == ["a", "b"]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("train", [], "'train' is empty"),
        ("val", [], "'val' is empty"),
        ("test", [], "'test' is empty"),
        ("train", {}, "'train' must be a list"),
        ("train", [["a/1.jpg", 0]], r"train\[0\] must be"),
        ("train", [["a/1.jpg", "0", "a"]], r"train\[0\] must be"),
        ("train", [["a/1.jpg", True, "a"]], r"train\[0\] must be"),
        ("train", [["a/1.jpg", 0.0, "a"]], r"train\[0\] must be"),
        ("train", [["a/1.jpg", None, "a"]], r"train\[0\] must be"),
        ("train", ["a/1.jpg"], r"train\[0\] must be"),
        ("test", [["b/3.jpg", 1, "b"], ["b/4.jpg", -1, "b"]], r"test\[1\] needs a label"),
        ("test", [["b/3.jpg", 1, " "]], r"test\[0\] needs a label"),
        ("test", [["b/3.jpg", 1, "c"]], "label 1 has two class names, 'b' and 'c'"),
        ("train", [["a/1.jpg", 0, "a"], ["c/1.jpg", 2, "c"]], "label 1 has no training image"),
        ("train", [["b/1.jpg", 1, "b"]], "label 0 has no training image"),
        ("test", [["c/3.jpg", 2, "c"]], "label 2 has no training image"),
        ("test", [["/etc/passwd", 1, "b"]], "not inside"),
        ("test", [["../../secret.jpg", 1, "b"]], "not inside"),
        ("test", [["b/../../secret.jpg", 1, "b"]], "not inside"),
        ("test", [["C:\\pictures\\3.jpg", 1, "b"]], "not inside"),
        ("test", [["", 1, "b"]], "not inside"),
    ],
)
def test_malformed_split_file(root, part, change, message):
    edit_split(root, lambda _: {**GOOD, part: change})
    check_split_error(root, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not valid JSON"),
        ('{"train": [', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("\udcff", "is not valid JSON"),
        ("[]", "expected an object with the keys train, val, test; got list"),
        ('{"train": [], "test": []}', "expected an object with the keys"),
        ('{"train": [], "val": [], "test": [], "more": []}', "got .*'more'"),
    ],
)
def test_unreadable_split_file(root, content, message):
    (root / "dtd" / SPLIT_NAME).write_bytes(content.encode(errors="surrogateescape"))
    check_split_error(root, message)


def check_split_error(root, message):
    with pytest.raises(ValueError, match=message) as error:
        load(root)
    assert str(root / "dtd" / SPLIT_NAME) in str(error.value)
    assert "Delete it" in str(error.value)
    assert len(str(error.value).splitlines()) < 6
