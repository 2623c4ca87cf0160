"""Split files: a good one is read, whatever wrote it; each wrong one is one clear error."""

import json
import re
import subprocess

import pytest

from tests.datasets.test_fewshot import SPLIT_NAME, edit_split, load

GOOD = {
    "train": [["a/1.jpg", 0, "a"], ["b/1.jpg", 1, "b"]],
    "val": [["a/2.jpg", 0, "a"]],
    "test": [["b/3.jpg", 1, "b"]],
}


def windows(lead: str, *parts: str):
    """GOOD with paths as Windows writes them."""
    folder = "\\".join((*parts, ""))
    return {
        part: [[lead + folder + path.replace("/", "\\"), *rest] for path, *rest in rows]
        for part, rows in GOOD.items()
    }


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        windows("\\"),
        windows(""),
        windows("D:\\", "data", "dtd", "images"),
        windows("\\\\server\\", "dtd", "images"),
        {part: [[f"/home/u/dtd/images/{p}", *rest] for p, *rest in GOOD[part]] for part in GOOD},
        {part: [[p, str(label), name] for p, label, name in GOOD[part]] for part in GOOD},
        {**GOOD, "val": []},
        {"made with": "a script", **GOOD},
    ],
    ids=["plain", "\\a", "a\\b", "D:", "server", "absolute", "labels as text", "no val", "more"],
)
def test_good_split_file_is_read(root, content, capsys):
    edit_split(root, lambda _: content)
    dataset = load(root, -1)
    assert dataset.classnames == ["a", "b"]
    for part, items in (("train", dataset.train_x), ("test", dataset.test)):
        expected = [(f"{root}/dtd/images/{path}", label) for path, label, _ in GOOD[part]]
        assert [(item.impath, item.label) for item in items] == expected
    assert len(dataset.val or []) == len(content["val"])
    assert ("not read: 'made with'" in capsys.readouterr().out) == ("made with" in content)


def test_a_backslash_that_belongs_to_a_name_stays(root):
    edit_split(root, lambda _: {**GOOD, "test": [["b/3\\4.jpg", 1, "b"]]})
    assert load(root, -1).test[0].impath.endswith("images/b/3\\4.jpg")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_split_file_that_an_editor_saved(root, encoding):
    (root / "dtd" / SPLIT_NAME).write_text(json.dumps(GOOD, indent=1), encoding=encoding)
    assert load(root, -1).classnames == ["a", "b"]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("train", [], "'train' is empty"),
        ("test", [], "'test' is empty"),
        ("train", {}, "'train' must be a list"),
        ("train", [["a/1.jpg", 0]], r"train\[0\] must be"),
        ("train", [["a/1.jpg", "one", "a"]], r"train\[0\] must be"),
        ("train", [["a/1.jpg", "9" * 9000, "a"]], "digits"),
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
        ("test", [["..\\..\\secret.jpg", 1, "b"]], "not inside"),
        ("test", [["\\b\\..\\..\\secret.jpg", 1, "b"]], "not inside"),
        ("test", [["\\\\server\\b\\3.jpg", 1, "b"]], "not inside"),
        ("test", [["D:\\dtd\\images\\..\\3.jpg", 1, "b"]], "not inside"),
        ("test", [["/dtd/images/a/dtd/images/3.jpg", 1, "b"]], "not inside"),
        ("test", [["b/3\udce9.jpg", 1, "b"]], "half a letter"),
        ("test", [["b/3.jpg", 1, "b\n"]], "control character"),
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
        ("[]", "expected an object with the keys train, val, test; got list"),
        ('{"train": [], "test": []}', "expected an object with the keys"),
    ],
)
def test_unreadable_split_file(root, content, message):
    (root / "dtd" / SPLIT_NAME).write_bytes(content.encode(errors="surrogateescape"))
    check_split_error(root, message)


def check_split_error(root, message):
    path = root / "dtd" / SPLIT_NAME
    with pytest.raises(ValueError, match=message) as error:
        load(root)
    assert str(path) in str(error.value)
    assert f"python -m tools.data download dtd --root {root}" in str(error.value)
    assert len(str(error.value).splitlines()) < 6


def test_the_advice_keeps_the_file_and_helps(root):
    """Followed twice: the second file does not replace the first."""
    path = root / "dtd" / SPLIT_NAME
    for number, name in enumerate((f"{SPLIT_NAME}.old", f"{SPLIT_NAME}.old2")):
        path.write_text(f"{{{number}")
        with pytest.raises(ValueError) as error:
            load(root)
        (command,) = re.findall(r"\((mv .*)\)", str(error.value))
        subprocess.run(command, shell=True, check=True)
        assert not path.exists()
        assert path.with_name(name).read_text() == f"{{{number}"


def test_another_encoding_is_named(root):
    path = root / "dtd" / SPLIT_NAME
    content = json.dumps({**GOOD, "test": [["b/3.jpg", 1, "café"]]}, ensure_ascii=False)
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"is not UTF-8: byte .*(?s:.*) iconv -f LATIN1"):
        load(root)
