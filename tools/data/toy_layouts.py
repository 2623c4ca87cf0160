"""The files of each data set as it is published, only small and drawn: one function a layout.

Each function gets the folder of its data set, the class names ('red circle', ..) in label order,
how many pictures a class gets, and `paint(path, class name)`, which draws one picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

Paint = Callable[[Path, str], None]


class Amounts(NamedTuple):
    """Pictures per class."""

    train: int
    val: int
    test: int


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _capitals(name: str) -> str:
    """'red circle' -> 'RedCircle'."""
    return name.title().replace(" ", "")


def _class_folders(
    folder: Path, names: list[str], count: int, paint: Paint, separator: str = "_"
) -> None:
    for name in names:
        stem = name.replace(" ", separator)
        for number in range(1, count + 1):
            paint(folder / stem / f"{stem}_{number:04d}.jpg", name)


# ---------------------------------------------------------------- split 50/20/30 per class


def caltech101(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    images = folder / "101_ObjectCategories"
    _class_folders(images, names, sum(n), paint)
    for left_out in ("BACKGROUND_Google", "Faces_easy"):
        paint(images / left_out / "image_0001.jpg", names[0])


def class_folders(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    """DTD and Food-101."""
    _class_folders(folder / "images", names, sum(n), paint)


def eurosat(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    _class_folders(folder / "2750", names, sum(n), paint, separator=" ")


def oxford_flowers(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    from scipy.io import savemat

    labels = [label for label in range(1, len(names) + 1) for _ in range(sum(n))]
    for number, label in enumerate(labels, 1):
        paint(folder / "jpg" / f"image_{number:05d}.jpg", names[label - 1])
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    by_label = {str(label): name for label, name in enumerate(names, 1)}
    (folder / "cat_to_name.json").write_text(json.dumps(by_label), encoding="utf-8")


# ---------------------------------------------------------------- official train and test lists


def oxford_pets(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    for file, first, last in _trainval_test(n):
        lines = []
        for label, name in enumerate(names, 1):
            breed = name.capitalize().replace(" ", "_")
            for number in range(first, last):
                paint(folder / "images" / f"{breed}_{number}.jpg", name)
                lines.append(f"{breed}_{number} {label} 1 {label}")
        _write_lines(folder / "annotations" / f"{file}.txt", lines)


def _trainval_test(n: Amounts) -> Iterator[tuple[str, int, int]]:
    """Name of a list, number of its first picture of a class, one past that of its last."""
    middle = n.train + n.val + 1
    yield "trainval", 1, middle
    yield "test", middle, middle + n.test


def stanford_cars(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    from scipy.io import savemat

    (folder / "devkit").mkdir(parents=True)
    cars = np.empty((1, len(names)), dtype=object)
    cars[0] = [f"{name} {2000 + label}" for label, name in enumerate(names)]
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": cars})
    fields = [("bbox_x1", object), ("class", object), ("fname", object)]
    for images, listed, count in (
        ("cars_train", "devkit/cars_train_annos.mat", n.train + n.val),
        ("cars_test", "cars_test_annos_withlabels.mat", n.test),
    ):
        rows = []
        for label, name in (
            (label, name) for label, name in enumerate(names, 1) for _ in range(count)
        ):
            file = f"{len(rows) + 1:05d}.jpg"
            paint(folder / images / file, name)
            rows.append((1, label, file))
        savemat(folder / listed, {"annotations": np.array([rows], dtype=fields)})


def fgvc_aircraft(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    _write_lines(folder / "variants.txt", names)
    number = 1000000
    for part, count in (("train", n.train), ("val", n.val), ("test", n.test)):
        lines = []
        for name in (name for name in names for _ in range(count)):
            number += 1
            paint(folder / "images" / f"{number}.jpg", name)
            lines.append(f"{number} {name}")
        _write_lines(folder / f"images_variant_{part}.txt", lines)


def sun397(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    """'red circle' lies in c/circle/red, as 'indoor apse' lies in a/apse/indoor."""
    scenes = {}
    for name in names:
        color, shape = name.split()
        scenes[name] = f"/{shape[0]}/{shape}/{color}"
    _write_lines(folder / "ClassName.txt", list(scenes.values()))
    for (_, first, last), part in zip(_trainval_test(n), ("Training", "Testing"), strict=True):
        lines = []
        for name, scene in scenes.items():
            for number in range(first, last):
                lines.append(f"{scene}/sun_{number:04d}.jpg")
                paint(folder / f"SUN397{lines[-1]}", name)
        _write_lines(folder / f"{part}_01.txt", lines)


def ucf101(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    lists = folder / "ucfTrainTestlist"
    actions = [_capitals(name) for name in names]
    _write_lines(lists / "classInd.txt", [f"{i} {action}" for i, action in enumerate(actions, 1)])
    for (_, first, last), part in zip(_trainval_test(n), ("train", "test"), strict=True):
        lines = []
        for label, (name, action) in enumerate(zip(names, actions, strict=True), 1):
            for number in range(first, last):
                video = f"v_{action}_g{number:02d}_c01"
                words = name.title().replace(" ", "_")
                paint(folder / "UCF-101-midframes" / words / f"{video}.jpg", name)
                lines.append(f"{action}/{video}.avi" + (f" {label}" if part == "train" else ""))
        _write_lines(lists / f"{part}list01.txt", lines)


# ---------------------------------------------------------------- ImageNet and its variants


def _wordnet_ids(names: list[str]) -> list[str]:
    return [f"n{10000000 + 37 * number:08d}" for number in range(len(names))]


def _classnames(folder: Path, names: list[str]) -> dict[str, str]:
    """Writes classnames.txt; returns class folder -> name."""
    folders = dict(zip(_wordnet_ids(names), names, strict=True))
    _write_lines(folder / "classnames.txt", [f"{key} {name}" for key, name in folders.items()])
    return folders


def imagenet(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    for key, name in _classnames(folder, names).items():
        for number in range(n.train):
            paint(folder / "images" / "train" / key / f"{key}_{number}.JPEG", name)
        for number in range(n.test):
            paint(folder / "images" / "val" / key / f"ILSVRC2012_val_{number:08d}.JPEG", name)


def imagenetv2(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    images = folder / "imagenetv2-matched-frequency-format-val"
    for position, name in enumerate(_classnames(folder, names).values()):
        for number in range(n.test):
            paint(images / str(position) / f"{number:04d}.jpeg", name)


def imagenet_sketch(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
    for key, name in _classnames(folder, names).items():
        for number in range(n.test):
            paint(folder / "images" / key / f"sketch_{number}.JPEG", name)


def every_second(images_name: str) -> Callable[[Path, list[str], Amounts, Paint], None]:
    """ImageNet-A and -R: only some of the classes, and a README.txt between the folders."""

    def layout(folder: Path, names: list[str], n: Amounts, paint: Paint) -> None:
        images = folder / images_name
        for key, name in list(_classnames(folder, names).items())[::2]:
            for number in range(n.test):
                paint(images / key / f"{number:06d}.jpg", name)
        _write_lines(images / "README.txt", ["Drawn pictures in the layout of " + images_name])

    return layout
