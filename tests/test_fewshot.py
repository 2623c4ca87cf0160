"""The few-shot draw, split files, base/new classes and caches of datasets/few_shot.py."""

import json
import os
import pickle
import random
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from dassl.data.datasets import Datum
from dassl.utils import set_random_seed
from datasets import _cache, _splits
from datasets.dtd import DescribableTextures
from datasets.few_shot import subsample_classes
from datasets.oxford_pets import OxfordPets

GOLDEN = Path(__file__).parent / "golden" / "data"
DRAWS = json.loads((GOLDEN / "dtd.json").read_text())
SPLIT_NAME = "split_zhou_DescribableTextures.json"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with the golden split file and no pictures but one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    (tmp_path / "data/dtd/images/banded").mkdir(parents=True)
    shutil.copy(GOLDEN / SPLIT_NAME, tmp_path / "data/dtd")
    return tmp_path / "data"


def load(root, shots=16, seed=1, subsample="all"):
    options = SimpleNamespace(ROOT=str(root), NUM_SHOTS=shots, SUBSAMPLE_CLASSES=subsample)
    return DescribableTextures(SimpleNamespace(DATASET=options, SEED=seed))


def rows(dataset, part):
    return [
        [os.path.relpath(item.impath, dataset.image_dir), item.label, item.classname]
        for item in getattr(dataset, part)
    ]


def drawn(dataset):
    return rows(dataset, "train_x"), rows(dataset, "val")


def edit_split(root, change):
    path = root / "dtd" / SPLIT_NAME
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def put_train(content, rows):
    content["train"] = rows


# ---------------------------------------------------------------- the draw


@pytest.mark.parametrize("kept", [False, True], ids=["drawn", "kept"])
def test_draw_is_the_published_codes(root, kept):
    for key, expected in DRAWS.items():
        shots, seed, subsample = key.replace("shots", "").replace("seed", "").split("_")
        if kept:
            load(root, int(shots), int(seed))
        set_random_seed(int(seed))
        dataset = load(root, int(shots), int(seed), subsample)
        for part in ("train_x", "val", "test"):
            assert rows(dataset, part) == expected[part], (key, part)
        assert dataset.classnames == expected["classnames"]
        assert dataset.num_classes == expected["num_classes"]
    assert len(DRAWS) == 39


def test_draw_depends_on_the_seed_alone_and_leaves_the_generator(root):
    set_random_seed(7)
    before = random.getstate()
    first = load(root, 4, seed=3)
    again = load(root, 4, seed=3)  # from the cache
    assert random.getstate() == before
    assert drawn(first) == drawn(again)
    assert rows(first, "train_x") == DRAWS["shots4_seed3_all"]["train_x"]
    assert drawn(load(root, 4, seed=2)) != drawn(first)


def test_unseeded_draw_uses_the_global_generator_and_is_not_kept(root):
    random.seed(2)
    assert rows(load(root, 4, seed=-1), "train_x") == DRAWS["shots4_seed2_all"]["train_x"]
    assert rows(load(root, 4, seed=-1), "train_x") != DRAWS["shots4_seed2_all"]["train_x"]
    assert not (root / "dtd/split_fewshot").exists()


def test_seed_zero_is_a_seed(root):
    assert drawn(load(root, 2, seed=0)) == drawn(load(root, 2, seed=0))


# ---------------------------------------------------------------- our cache


def test_cache_holds_relative_paths_and_moves_with_the_data(root, tmp_path):
    before = drawn(load(root, 4))
    (kept,) = (root / "dtd/split_fewshot").iterdir()
    assert str(tmp_path) not in kept.read_text()
    moved = tmp_path / "elsewhere"
    root.rename(moved)
    dataset = load(moved, 4)
    assert drawn(dataset) == before
    assert all(item.impath.startswith(str(moved)) for item in dataset.train_x)


def test_changed_split_file_is_never_served_an_old_draw(root):
    load(root, 2)
    edit_split(root, lambda content: put_train(content, content["train"][::-1]))
    old = {tuple(row) for row in DRAWS["shots2_seed1_all"]["train_x"]}
    assert {tuple(row) for row in rows(load(root, 2), "train_x")} != old
    edit_split(root, lambda content: json.loads(json.dumps(content).replace("banded", "striped")))
    assert load(root, 2).classnames[0] == "striped"


def test_damaged_cache_is_made_again(root):
    before = drawn(load(root, 4))
    (kept,) = (root / "dtd/split_fewshot").iterdir()
    whole = kept.read_text()
    for damaged in ("", whole[:100], "[]", '{"split": 1}', whole.replace("[[", "[[1,")):
        kept.write_text(damaged)
        assert drawn(load(root, 4)) == before
        assert kept.read_text() == whole


def test_folder_that_cannot_be_written_uses_the_users_cache(root, tmp_path):
    (root / "dtd/split_fewshot").write_text("a file where the folder would be")
    before = drawn(load(root, 4))
    (kept,) = (tmp_path / "user_cache/mmrl").rglob("*.json")
    kept.write_text(kept.read_text().replace("banded_00", "banded_99"))  # seen: it is read
    assert any("banded_99" in path for path, _, _ in rows(load(root, 4), "train_x"))
    kept.unlink()
    shutil.rmtree(tmp_path / "user_cache")
    (tmp_path / "user_cache").write_text("not a folder either")
    assert drawn(load(root, 4)) == before


def test_two_writers_never_leave_a_mixed_file(tmp_path):
    path = tmp_path / "split_fewshot" / "draw.json"
    contents = [[str(writer)] * 5000 for writer in range(4)]

    def write(content):
        for _ in range(10):
            _splits.write_json_atomically(content, str(path))

    threads = [threading.Thread(target=write, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert json.loads(path.read_text()) in contents
    assert [file.name for file in path.parent.iterdir()] == ["draw.json"]


def test_failed_write_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "draw.json"
    _splits.write_json_atomically([1], str(path))
    with pytest.raises(TypeError):
        _splits.write_json_atomically([object()], str(path))
    assert path.read_text() == "[1]"
    assert len(list(tmp_path.iterdir())) == 1


# ---------------------------------------------------------------- CoOp's pickles


def pickle_draw(root, seed, content, protocol=pickle.HIGHEST_PROTOCOL):
    folder = root / "dtd/split_fewshot"
    folder.mkdir(exist_ok=True)
    path = folder / f"shot_2-seed_{seed}.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def data(rows, folder="/gone/for/ever/dtd/images"):
    return [Datum(impath=f"{folder}/{p}", label=y, classname=name) for p, y, name in rows]


def test_coops_draw_is_used_and_its_paths_point_to_the_present_folder(root):
    expected = DRAWS["shots2_seed3_all"]  # not what seed 1 would draw
    pickle_draw(
        root, 1, {part: data(expected[p]) for part, p in (("train", "train_x"), ("val", "val"))}
    )
    dataset = load(root, 2, seed=1)
    assert drawn(dataset) == (expected["train_x"], expected["val"])
    assert dataset.train_x[0].impath.startswith(str(root))


def test_coops_draw_of_another_split_is_an_error(root):
    train, val = (DRAWS["shots2_seed1_all"][part] for part in ("train_x", "val"))
    test = DRAWS["shots2_seed1_all"]["test"]
    path = pickle_draw(root, 1, {"train": data(test[:3]), "val": data(val)})
    with pytest.raises(ValueError, match="another split") as error:
        load(root, 2)
    assert str(path) in str(error.value)
    relabelled = [[p, y + 1, name] for p, y, name in train]
    pickle_draw(root, 1, {"train": data(relabelled), "val": data(val)})
    with pytest.raises(ValueError, match="labelled 0 in this one"):
        load(root, 2)


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_hostile_pickle_runs_nothing(root, tmp_path, protocol):
    marker = tmp_path / "owned"
    path = pickle_draw(root, 1, {"train": [Hostile(marker)], "val": []}, protocol)
    with pytest.raises(ValueError, match="Delete it") as error:
        load(root, 2)
    assert str(path) in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"train": [], "val": [1]}),
        pickle.dumps({"train": []}),
        pickle.dumps([1, 2]),
        pickle.dumps({"train": [Datum("a.jpg", "0", 0, "x")], "val": []}),
        b"cdassl.data.datasets\nDatum.__init__.__globals__\n.",
        b"\x80\x04\x8c\x13dassl.data.datasets\x94\x8c\x0bDatasetBase\x94\x93.",
    ],
    ids=["empty", "text", "number", "no val", "list", "label", "dotted", "other class"],
)
def test_what_is_no_cache_is_one_clear_error(root, content):
    path = pickle_draw(root, 1, content)
    with pytest.raises(ValueError, match="Delete it") as error:
        load(root, 2)
    assert str(path) in str(error.value)


# ---------------------------------------------------------------- split files

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


def test_template_must_have_one_place_for_the_name(root):
    for template in ("a photo", "{} and {}"):
        options = SimpleNamespace(ROOT=str(root), NUM_SHOTS=1, TEMPLATE=template)
        with pytest.raises(ValueError, match="exactly one"):
            DescribableTextures(SimpleNamespace(DATASET=options, SEED=1))


# ---------------------------------------------------------------- base and new classes


def labelled(*labels):
    return [Datum(f"{label}.jpg", label, classname=f"class {label}") for label in labels]


def test_base_is_the_larger_half_and_both_count_from_zero():
    base = subsample_classes(labelled(0, 1, 2, 3, 4), labelled(4, 2), subsample="base")
    new = subsample_classes(labelled(0, 1, 2, 3, 4), labelled(4, 2), subsample="new")
    assert [[(d.label, d.classname) for d in part] for part in base] == [
        [(0, "class 0"), (1, "class 1"), (2, "class 2")],
        [(2, "class 2")],
    ]
    assert [[(d.label, d.impath) for d in part] for part in new] == [
        [(0, "3.jpg"), (1, "4.jpg")],
        [(1, "4.jpg")],
    ]


def test_all_changes_nothing():
    train, test = labelled(0, 1), labelled(1)
    assert subsample_classes(train, test, subsample="all") == [train, test]


def test_halves_that_cannot_be():
    with pytest.raises(ValueError, match="allowed: all, base, new"):
        subsample_classes(labelled(0, 1), subsample="bases")
    for half in ("base", "new"):
        with pytest.raises(ValueError, match="at least two classes"):
            subsample_classes(labelled(0, 0), subsample=half)
    with pytest.raises(ValueError, match="no image of the new classes"):
        subsample_classes(labelled(0, 1), labelled(0), subsample="new")


def test_wrong_word_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="allowed: all, base, new"):
        load(tmp_path / "nowhere", subsample="Base")


# ---------------------------------------------------------------- for loaders of the CoOp code base


def test_names_that_coops_loaders_use(tmp_path):
    items = [Datum(f"{tmp_path}/{i % 2}/{i}.jpg", i % 2, classname="ab"[i % 2]) for i in range(20)]
    path = str(tmp_path / "split_zhou_My.json")
    train, val = OxfordPets.split_trainval(items)
    assert (len(train), len(val)) == (16, 4)
    OxfordPets.save_split(train, val, items[:3], path, str(tmp_path))
    assert "/tmp" not in Path(path).read_text()
    again = OxfordPets.read_split(path, str(tmp_path))
    assert [[d.impath for d in part] for part in again] == [
        [d.impath for d in part] for part in (train, val, items[:3])
    ]
    (base,) = OxfordPets.subsample_classes(train, subsample="base")
    assert {d.classname for d in base} == {"a"}


def test_listing_is_kept_and_follows_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    for name in ("b/2.jpg", "b/1.JPEG", "a/1.png", "a/.hidden.png", "a/notes.txt"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    expected = {"a": ["1.png"], "b": ["1.JPEG", "2.jpg"]}
    assert _cache.list_class_folders_once(str(tmp_path), "images") == expected
    listed = []
    monkeypatch.setattr(_cache, "list_images", lambda folder: listed.append(folder) or ["new"])
    assert _cache.list_class_folders_once(str(tmp_path), "images") == expected
    assert listed == []
    (tmp_path / "images/a/2.png").touch()
    os.utime(tmp_path / "images/a", ns=(1, 1))
    assert _cache.list_class_folders_once(str(tmp_path), "images") == {**expected, "a": ["new"]}
    assert listed == [str(tmp_path / "images/a")]
