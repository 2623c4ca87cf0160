"""What datasets/few_shot.py keeps between runs, and the pickles of CoOp that it reads."""

import json
import os
import pickle
import shutil

import pytest

from dassl.data.datasets import Datum
from datasets import _cache
from tests.datasets.test_fewshot import DRAWS, drawn, edit_split, load, rows


def put_train(content, rows):
    content["train"] = rows


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


def test_coops_draw_that_lacks_a_class_is_named(root):
    expected = DRAWS["shots2_seed1_all"]
    path = pickle_draw(root, 1, {"train": data(expected["train_x"][2:]), "val": []})
    with pytest.raises(ValueError, match=r"no image of label 0. Move it aside") as error:
        load(root, 2)
    assert str(path) in str(error.value)


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_hostile_pickle_runs_nothing(root, tmp_path, protocol):
    marker = tmp_path / "owned"
    path = pickle_draw(root, 1, {"train": [Hostile(marker)], "val": []}, protocol)
    with pytest.raises(ValueError, match="Move it aside") as error:
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
    with pytest.raises(ValueError, match="Move it aside") as error:
        load(root, 2)
    assert str(path) in str(error.value)
