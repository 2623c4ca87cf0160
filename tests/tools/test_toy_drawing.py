"""The drawn images and the demo dataset on disk."""

from __future__ import annotations

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
    draw_item,
    write_dataset,
    write_once,
)
from tools.toy.drawing import (
    COLORS,
    SHAPES,
    SIZE,
    all_class_names,
    draw,
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
def test_an_image_depends_on_its_generator_alone(style, strength):
    first, again = (pixels("red star", 3, style, strength) for _ in range(2))
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8
    assert (first == again).all()
    assert (first != pixels("red star", 4, style, strength)).any()


def test_no_two_combinations_look_the_same():
    drawn = {pixels(name, seed=1).tobytes() for name in all_class_names()}
    assert len(drawn) == len(COLORS) * len(SHAPES) == 100


@pytest.mark.parametrize("name", ["yellow circle", "blue square", "white heart"])
def test_the_shape_has_the_named_color(name):
    """The circle, square and heart cover their centre; light may vary by a quarter."""
    color = np.array(COLORS[split_name(name)[0]])
    for seed in range(20):
        image = pixels(name, seed).astype(float)
        close = np.abs(image - color).max(axis=2) < 75
        assert close.mean() > 0.08, f"seed {seed}"


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


# The dataset


def test_command(tmp_path, capsys):
    words = f"{tmp_path} --train 2 --val 1 --test 1 --seed 4 --shift 0.2".split()
    assert toy_command.main(words) == 0
    assert str(tmp_path / FOLDER) in capsys.readouterr().out
    record = json.loads((tmp_path / FOLDER / SETTINGS).read_text())
    counts = {"train": 2, "val": 1, "test": 1}
    assert record["settings"] == {"seed": 4, "shift": 0.2, "counts": counts}


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


def test_images_depend_on_seed_class_and_number_alone(demo):
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
