"""Draw every dataset small, in its real layout, so that all loaders run without a download.

A layout writes the lists of its dataset, and yields the images: path below the dataset's directory,
and class name ('red circle', ..). Class names come in label order.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.data.catalogue import Counts, catalogue, find_entry
from tools.toy.dataset import read_record, write_once
from tools.toy.drawing import all_class_names, draw

CLASSES = 8
TRAIN = 20  # training images a class: enough for 16 shots
SIZE = 48  # pixels


class Amounts(NamedTuple):
    """Images per class."""

    train: int
    val: int
    test: int


Images = Iterator[tuple[str, str]]
Layout = Callable[[Path, list[str], Amounts], Images]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


# Split 50/20/30 per class


def class_folders(
    images: str, separator: str, folder: Path, names: list[str], n: Amounts
) -> Images:
    for name in names:
        stem = name.replace(" ", separator)
        for number in range(1, sum(n) + 1):
            yield f"{images}/{stem}/{stem}_{number:04d}.jpg", name


def caltech101(folder: Path, names: list[str], n: Amounts) -> Images:
    yield from class_folders("101_ObjectCategories", "_", folder, names, n)
    for left_out in ("BACKGROUND_Google", "Faces_easy"):
        yield f"101_ObjectCategories/{left_out}/image_0001.jpg", names[0]


def oxford_flowers(folder: Path, names: list[str], n: Amounts) -> Images:
    from scipy.io import savemat

    labels = [label for label in range(1, len(names) + 1) for _ in range(sum(n))]
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    by_label = {str(label): name for label, name in enumerate(names, 1)}
    (folder / "cat_to_name.json").write_text(json.dumps(by_label), encoding="utf-8")
    for number, label in enumerate(labels, 1):
        yield f"jpg/image_{number:05d}.jpg", names[label - 1]


# Official training and test lists


def listed(
    folder: Path,
    names: list[str],
    n: Amounts,
    lists: tuple[str, str],
    entry: Callable[[int, str, int, bool], tuple[str, str]],
) -> Images:
    """`entry(label, name, number, trained)` gives a line of the list and the path of its image."""
    middle = n.train + n.val + 1
    parts = (range(1, middle), range(middle, middle + n.test))
    for file, numbers in zip(lists, parts, strict=True):
        lines = []
        for label, name in enumerate(names, 1):
            for number in numbers:
                line, path = entry(label, name, number, file == lists[0])
                lines.append(line)
                yield path, name
        write_lines(folder / file, lines)


def oxford_pets(folder: Path, names: list[str], n: Amounts) -> Images:
    def entry(label: int, name: str, number: int, trained: bool) -> tuple[str, str]:
        stem = f"{name.capitalize().replace(' ', '_')}_{number}"
        return f"{stem} {label} 1 {label}", f"images/{stem}.jpg"

    lists = ("annotations/trainval.txt", "annotations/test.txt")
    yield from listed(folder, names, n, lists, entry)


def sun397(folder: Path, names: list[str], n: Amounts) -> Images:
    """'red circle' lies in c/circle/red, as 'indoor apse' lies in a/apse/indoor."""

    def scene(name: str) -> str:
        color, shape = name.split()
        return f"/{shape[0]}/{shape}/{color}"

    def entry(label: int, name: str, number: int, trained: bool) -> tuple[str, str]:
        line = f"{scene(name)}/sun_{number:04d}.jpg"
        return line, f"SUN397{line}"

    write_lines(folder / "ClassName.txt", map(scene, names))
    yield from listed(folder, names, n, ("Training_01.txt", "Testing_01.txt"), entry)


def ucf101(folder: Path, names: list[str], n: Amounts) -> Images:
    def action(name: str) -> str:
        return name.title().replace(" ", "")

    def entry(label: int, name: str, number: int, trained: bool) -> tuple[str, str]:
        video = f"v_{action(name)}_g{number:02d}_c01"
        line = f"{action(name)}/{video}.avi" + (f" {label}" if trained else "")
        return line, f"UCF-101-midframes/{name.title().replace(' ', '_')}/{video}.jpg"

    lists = [f"ucfTrainTestlist/{name}.txt" for name in ("trainlist01", "testlist01", "classInd")]
    write_lines(folder / lists[2], (f"{i} {action(name)}" for i, name in enumerate(names, 1)))
    yield from listed(folder, names, n, (lists[0], lists[1]), entry)


def stanford_cars(folder: Path, names: list[str], n: Amounts) -> Images:
    from scipy.io import savemat

    (folder / "devkit").mkdir(parents=True)
    cars = np.empty((1, len(names)), dtype=object)
    cars[0] = [f"{name} {2000 + label}" for label, name in enumerate(names)]
    savemat(folder / "devkit/cars_meta.mat", {"class_names": cars})
    fields = [("bbox_x1", object), ("class", object), ("fname", object)]
    for images, listed_in, count in (
        ("cars_train", "devkit/cars_train_annos.mat", n.train + n.val),
        ("cars_test", "cars_test_annos_withlabels.mat", n.test),
    ):
        labels = [label for label in range(1, len(names) + 1) for _ in range(count)]
        rows = [(1, label, f"{number:05d}.jpg") for number, label in enumerate(labels, 1)]
        savemat(folder / listed_in, {"annotations": np.array([rows], dtype=fields)})
        for _, label, file in rows:
            yield f"{images}/{file}", names[label - 1]


def fgvc_aircraft(folder: Path, names: list[str], n: Amounts) -> Images:
    write_lines(folder / "variants.txt", names)
    number = 1000000
    for part, count in zip(n._fields, n, strict=True):
        lines = []
        for name in (name for name in names for _ in range(count)):
            number += 1
            lines.append(f"{number} {name}")
            yield f"images/{number}.jpg", name
        write_lines(folder / f"images_variant_{part}.txt", lines)


# ImageNet and its variants


def wordnet(folder: Path, names: list[str]) -> dict[str, str]:
    """Class folder -> name; writes classnames.txt."""
    folders = {f"n{10000000 + 37 * number:08d}": name for number, name in enumerate(names)}
    write_lines(folder / "classnames.txt", (f"{key} {name}" for key, name in folders.items()))
    return folders


def imagenet(folder: Path, names: list[str], n: Amounts) -> Images:
    for key, name in wordnet(folder, names).items():
        for number in range(n.train):
            yield f"images/train/{key}/{key}_{number}.JPEG", name
        for number in range(n.test):
            yield f"images/val/{key}/ILSVRC2012_val_{number:08d}.JPEG", name


def imagenetv2(folder: Path, names: list[str], n: Amounts) -> Images:
    for position, name in enumerate(wordnet(folder, names).values()):
        for number in range(n.test):
            yield f"imagenetv2-matched-frequency-format-val/{position}/{number:04d}.jpeg", name


def variant(images: str, step: int, folder: Path, names: list[str], n: Amounts) -> Images:
    """Of ImageNet-A and -R only every second class, and a README.txt between the folders."""
    (folder / images).mkdir(parents=True)
    (folder / images / "README.txt").touch()
    for key, name in list(wordnet(folder, names).items())[::step]:
        for number in range(n.test):
            yield f"{images}/{key}/{number:06d}.jpg", name


LAYOUTS: dict[str, Layout] = {
    "imagenet": imagenet,
    "caltech101": caltech101,
    "oxford_pets": oxford_pets,
    "stanford_cars": stanford_cars,
    "oxford_flowers": oxford_flowers,
    "food101": partial(class_folders, "images", "_"),
    "fgvc_aircraft": fgvc_aircraft,
    "sun397": sun397,
    "dtd": partial(class_folders, "images", "_"),
    "eurosat": partial(class_folders, "2750", " "),
    "ucf101": ucf101,
    "imagenetv2": imagenetv2,
    "imagenet_sketch": partial(variant, "images", 1),
    "imagenet_a": partial(variant, "imagenet-a", 2),
    "imagenet_r": partial(variant, "imagenet-r", 2),
}


def amounts(config: str, train: int) -> Amounts:
    """Images per class that a loader makes of the layout."""
    test = train * 3 // 5
    if config.startswith("imagenet"):
        return Amounts(train if config == "imagenet" else 0, 0, test)
    of_training_list = config in ("oxford_pets", "stanford_cars", "sun397", "ucf101")
    return Amounts(train, round(train / 4) if of_training_list else train * 2 // 5, test)


# Drawing


def write_toy(
    root: Path,
    names: Iterable[str] = (),
    *,
    classes: int = CLASSES,
    train: int = TRAIN,
    size: int = SIZE,
) -> list[Path]:
    """Draw the named datasets (default: all) into root/<folder>; returns these directories.

    `train` images a class, and 2/5 to 3/5 of that for val and test. An image depends on its
    path and class only. ValueError for amounts that cannot be split, FileExistsError where a
    directory holds real data.
    """
    if not 2 <= classes <= len(all_class_names()):
        raise ValueError(f"classes is {classes}; allowed: 2 to {len(all_class_names())}")
    if train < 5 or train % 5:
        raise ValueError(f"train is {train}; allowed: 5, 10, 15, .. images a class")
    configs = [find_entry(name).config for name in names] or list(catalogue())
    return [_write_one(root, config, classes, amounts(config, train), size) for config in configs]


def _write_one(root: Path, config: str, classes: int, n: Amounts, size: int) -> Path:
    shown = -(-classes // 2) if config in ("imagenet_a", "imagenet_r") else classes
    folder = root / catalogue()[config].folder

    def fill(draft: Path) -> None:
        for path, name in LAYOUTS[config](draft, toy_names(config, classes), n):
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(zlib.crc32(f"{config}/{path}".encode()))
            draw(name, rng, size=size).save(draft / path, "JPEG", quality=90)

    counts = [shown, *(shown * count for count in n)]
    write_once(folder, {"counts": counts, "size": size}, fill)
    return folder


def toy_names(config: str, classes: int) -> list[str]:
    """Sorted class names. Variants of ImageNet have its classes, other sets some of their own."""
    every = all_class_names()
    start = 0 if config.startswith("imagenet") else zlib.crc32(config.encode())
    return sorted(every[(start + 7 * step) % len(every)] for step in range(classes))


def toy_counts(folder: Path) -> Counts | None:
    """What a loader must find in a drawn directory; None for any other directory."""
    settings = read_record(folder).get("settings")
    counts = settings.get("counts") if isinstance(settings, dict) else None
    if not isinstance(counts, list) or [type(c) for c in counts] != [int] * len(Counts._fields):
        return None
    return Counts(*counts)
