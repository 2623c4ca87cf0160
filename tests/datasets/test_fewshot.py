"""The few-shot draw and the base/new halves of datasets/few_shot.py."""

import json
import os
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from dassl.data.datasets import Datum
from dassl.utils import set_random_seed
from datasets.dtd import DescribableTextures
from datasets.few_shot import short_of_shots, subsample_classes
from datasets.oxford_pets import OxfordPets

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
DRAWS = json.loads((GOLDEN / "dtd.json").read_text())
SPLIT_NAME = "split_zhou_DescribableTextures.json"


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


def test_halves_that_cannot_be():
    with pytest.raises(ValueError, match="allowed: all, base, new"):
        subsample_classes(labelled(0, 1), subsample="bases")
    for half in ("base", "new"):
        with pytest.raises(ValueError, match="at least two classes"):
            subsample_classes(labelled(0, 0), subsample=half)
    with pytest.raises(ValueError, match="no image of the new classes"):
        subsample_classes(labelled(0, 1), labelled(0), subsample="new")


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


def test_classes_with_fewer_images_than_shots_are_named(root, capsys):
    whole = load(root, -1)
    counts = Counter(item.label for item in whole.train_x)
    least = min(counts, key=counts.get)
    name, shots = whole.lab2cname[least], counts[least]
    load(root, shots)
    row = next(row for row in rows(whole, "train_x") if row[1] == least)
    edit_split(root, lambda content: content["train"].remove(row))
    assert "fewer than" not in capsys.readouterr().out
    dataset = load(root, shots)
    assert short_of_shots(dataset.train_x, shots) == {name: shots - 1}
    told = f"1 classes have fewer than {shots} training images: {name} {shots - 1}"
    assert told in capsys.readouterr().out
