"""The drawn pictures and the demo data set on disk."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.toy import __main__ as toy_command
from tools.toy.dataset import (
    BASE,
    CLASSES,
    COUNTS,
    FOLDER,
    NEW,
    SEEN,
    SETTINGS,
    SPLIT_FILE,
    demo_splits,
    draw_item,
    write_dataset,
    write_once,
)
from tools.toy.drawing import (
    COLORS,
    MAX_TURN,
    SHAPES,
    SIZE,
    Pose,
    all_class_names,
    draw,
    shape_mask,
    split_name,
)

FEW = {"train": 3, "val": 1, "test": 2}


def pixels(name: str, seed: int = 0, style: str = "plain", strength: float = 0.0) -> np.ndarray:
    return np.asarray(draw(name, np.random.default_rng(seed), style, strength))


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), counts=FEW)


def load(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def read_split(folder: Path) -> dict[str, list]:
    return json.loads((folder / SPLIT_FILE).read_text())


# Drawing


@pytest.mark.parametrize(("style", "strength"), [("plain", 0.0), ("shifted", 0.6)])
def test_a_picture_depends_on_its_generator_alone(style, strength):
    first, again = (pixels("red star", 3, style, strength) for _ in range(2))
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8
    assert (first == again).all()
    assert (first != pixels("red star", 4, style, strength)).any()


@pytest.mark.parametrize("size", [32, 48, 224])
def test_size(size):
    assert draw("blue ring", np.random.default_rng(0), size=size).size == (size, size)


def test_no_two_combinations_look_the_same():
    drawn = {pixels(name, seed=1).tobytes() for name in all_class_names()}
    assert len(drawn) == len(COLORS) * len(SHAPES) == 100


def test_shapes_overlap_little_enough_to_be_told_apart():
    """Intersection over union of any two shapes in one pose."""
    masks = [shape_mask(shape, Pose(0.5, 0.5, 0.4, 0.0), SIZE) for shape in SHAPES]
    for (a, one), (b, two) in itertools.combinations(zip(SHAPES, masks, strict=True), 2):
        overlap = np.minimum(one, two).sum() / np.maximum(one, two).sum()
        assert overlap < 0.85, f"{a} and {b} overlap by {overlap:.2f}"


@pytest.mark.parametrize("name", ["yellow circle", "blue square", "white heart"])
def test_the_shape_has_the_named_color(name):
    """The circle, square and heart cover their centre; light may vary by a quarter."""
    color = np.array(COLORS[split_name(name)[0]])
    for seed in range(20):
        image = pixels(name, seed).astype(float)
        close = np.abs(image - color).max(axis=2) < 75
        assert close.mean() > 0.08, f"seed {seed}"


def test_no_more_than_a_tip_is_cut_off_by_the_border():
    """At the largest size and nearest to the corners that a random pose can be."""
    for shape in SHAPES:
        for turn in np.linspace(-1, 1, 9) * MAX_TURN[shape]:
            areas = [
                shape_mask(shape, Pose(place, place, 0.42, float(turn)), SIZE).sum()
                for place in (0.44, 0.5, 0.56)
            ]
            assert min(areas) > 0.98 * areas[1], f"{shape} turned {turn}"


def test_the_shift_grows_with_its_strength():
    plain = pixels("green heart", 5).astype(float)
    moved = [
        np.abs(pixels("green heart", 5, "shifted", strength) - plain).mean()
        for strength in (0.0, 0.3, 0.6, 1.0)
    ]
    assert moved[0] == 0 and (np.diff(moved) > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("red cube", "plain", 0.0), "'red cube'.*circle"),
        (("star", "plain", 0.0), "'star'"),
        (("red star", "painted", 0.0), "'painted'.*plain, shifted"),
        (("red star", "shifted", 1.5), "1.5"),
        (("red star", "plain", 0.5), "plain: 0"),
    ],
)
def test_what_cannot_be_drawn(arguments, message):
    name, style, strength = arguments
    with pytest.raises(ValueError, match=message):
        draw(name, np.random.default_rng(0), style, strength)


# Classes


def test_classes_of_the_demo():
    assert len(BASE) == len(NEW) == 15 and len(set(CLASSES)) == 30
    assert CLASSES == BASE + NEW, "labels 0..14 must be the base half"
    assert sorted(CLASSES + SEEN) == sorted(all_class_names())


@pytest.mark.parametrize("half", [BASE, NEW])
def test_neither_attribute_alone_solves_a_half(half):
    """Whoever knows only one attribute and guesses the other is right at most half the time."""
    for attribute in (0, 1):
        values = {split_name(name)[attribute] for name in half}
        assert 7 <= len(values) and len(values) / len(half) <= 0.5


def test_every_color_and_shape_is_seen_in_pretraining():
    for attribute, values in enumerate((COLORS, SHAPES)):
        counts = [sum(split_name(name)[attribute] == value for name in SEEN) for value in values]
        assert min(counts) >= 5


# The data set


def test_command(tmp_path, capsys):
    words = f"{tmp_path} --train 2 --val 1 --test 1 --seed 4 --shift 0.2".split()
    assert toy_command.main(words) == 0
    assert str(tmp_path / FOLDER) in capsys.readouterr().out
    record = json.loads((tmp_path / FOLDER / SETTINGS).read_text())
    counts = {"train": 2, "val": 1, "test": 1}
    assert record["settings"] == {"seed": 4, "shift": 0.2, "counts": counts}


def test_full_size_splits():
    splits = demo_splits()
    assert {split: len(items) for split, items in splits.items()} == {
        split: 30 * count for split, count in COUNTS.items()
    }
    assert COUNTS["train"] >= 16 and COUNTS["val"] >= 4


def test_layout(demo):
    splits = read_split(demo)
    assert list(splits) == ["train", "val", "test"]
    for split, items in splits.items():
        assert len(items) == 30 * FEW[split]
        for path, label, name in items:
            assert CLASSES[label] == name
            assert path.split("/")[0] == name.replace(" ", "_")
            assert load(demo / "images" / path).shape == (SIZE, SIZE, 3)
    paths = [item[0] for items in splits.values() for item in items]
    assert len(paths) == len(set(paths)) == sum(1 for _ in demo.glob("images/*/*.png"))


def test_no_picture_twice(demo):
    images = [load(path).tobytes() for path in demo.glob("images/*/*.png")]
    assert len(images) == len(set(images))


def test_pictures_depend_on_seed_class_and_number_alone(demo):
    item = read_split(demo)["val"][7]
    stored = load(demo / "images" / item[0])
    shift = json.loads((demo / SETTINGS).read_text())["settings"]["shift"]
    assert (stored == np.asarray(draw_item(tuple(item), 0, shift))).all()
    assert (stored != np.asarray(draw_item(tuple(item), 1, shift))).any()


def test_a_whole_set_is_reused(demo):
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*")}
    assert write_dataset(demo.parent, counts=FEW) == demo
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*")} == before
    assert os.listdir(demo.parent) == [FOLDER], "no draft is left behind"


def test_a_broken_or_other_set_is_redrawn(tmp_path):
    counts = dict.fromkeys(COUNTS, 1)
    folder = write_dataset(tmp_path, counts=counts)
    lost = folder / "images" / read_split(folder)["test"][0][0]
    first = lost.read_bytes()
    lost.unlink()
    write_dataset(tmp_path, counts=counts)
    assert lost.read_bytes() == first
    write_dataset(tmp_path, counts=counts, seed=1)
    assert lost.read_bytes() != first
    assert os.listdir(tmp_path) == [FOLDER]


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="move it away"):
        write_dataset(tmp_path, counts=FEW)
    assert (tmp_path / FOLDER / "mine.txt").read_text() == "keep"


def test_a_failed_drawing_leaves_nothing(tmp_path):
    def fill(draft: Path) -> None:
        (draft / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_once(tmp_path / "set", {}, fill)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"shift": -0.1}, "-0.1"), ({"counts": {"train": 3}}, "val"), ({"shift": 2}, "to 1")],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path, **arguments)
