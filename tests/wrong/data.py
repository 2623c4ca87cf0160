"""Data sets that are missing, in parts or in the wrong place, and folders of one's own."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.wrong import Wrong

OWN = ("DATASET.NAME", "ImageFolder", "DATASET.SUBSAMPLE_CLASSES", "all", "DATASET.PATH")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40)).save(path)


def own_folder(*names: str, count: int = 6) -> Callable[[Path], None]:
    """{tmp}/own with a folder of pictures for each name."""

    def make(folder: Path) -> None:
        (folder / "own").mkdir()
        for name in names:
            for number in range(count):
                picture(folder / "own" / name / f"{number}.png")

    return make


def broken_picture(folder: Path) -> None:
    own_folder("oak", "fir")(folder)
    for path in (folder / "own").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])


def broken_data(text: str) -> Callable[[Path], None]:
    """{tmp}/data with a data set whose split file holds `text`."""

    def make(folder: Path) -> None:
        picture(folder / "data/colored_shapes/images/red_circle/1.png")
        (folder / "data/colored_shapes/split_zhou_ColoredShapes.json").write_text(text)

    return make


def split(*rows: tuple[str, int, str]) -> str:
    return json.dumps(dict.fromkeys(("train", "val", "test"), rows))


DATA = (
    # data
    Wrong("no root", ("DATASET.ROOT", ""), ("no data root was given", "--root FOLDER")),
    Wrong("root missing", ("DATASET.ROOT", "{tmp}/nowhere"), ("does not exist", "make demo")),
    Wrong("root without it", ("DATASET.ROOT", "{tmp}"), ("no folder colored_shapes", "tools.toy")),
    Wrong(
        "root too deep", ("DATASET.ROOT", "{toy}/colored_shapes"), ("not colored_shapes/ itself",)
    ),
    Wrong(
        "split broken",
        ("DATASET.ROOT", "{tmp}/data"),
        ("not valid JSON", "mv .* && python -m tools.toy"),
        prepare=broken_data('{"train": ['),
    ),
    Wrong(
        "split outside",
        ("DATASET.ROOT", "{tmp}/data"),
        ("not inside the data folder", "mv .* && python -m tools.toy"),
        prepare=broken_data(split(("../../x.png", 0, "a"))),
    ),
    Wrong(
        "split with a gap",
        ("DATASET.ROOT", "{tmp}/data"),
        ("without a gap", "mv .* && python -m tools.toy"),
        prepare=broken_data(split(("a.png", 1, "a"))),
    ),
    Wrong(
        "one class",
        ("DATASET.ROOT", "{tmp}/data"),
        ("at least two classes", "add others"),
        prepare=broken_data(split(("a.png", 0, "a"))),
    ),
    Wrong(
        "one class of all",
        (*OWN, "{tmp}/own"),
        ("has one class, 'oak'", "at least two"),
        prepare=own_folder("oak"),
    ),
    Wrong(
        "one new class",
        ("DATASET.ROOT", "{tmp}/data", "DATASET.SUBSAMPLE_CLASSES", "new"),
        ("has one class, 'b'", "two each"),
        prepare=broken_data(split(("red_circle/1.png", 0, "a"), ("red_circle/1.png", 1, "b"))),
    ),
    Wrong("own nothing", ("DATASET.NAME", "ImageFolder"), ("DATASET.PATH is empty", "as in")),
    Wrong("own missing", (*OWN, "{tmp}/own"), ("no such folder", "set DATASET.PATH")),
    Wrong("own empty", (*OWN, "{tmp}/own"), ("empty|no class folders",), prepare=own_folder()),
    Wrong(
        "own few",
        (*OWN, "{tmp}/own"),
        ("class 'fir' has 2 images", "at least 4"),
        prepare=own_folder("oak", "fir", count=2),
    ),
    Wrong(
        "own odd name",
        (*OWN, "{tmp}/own"),
        ("class name number 0 is empty: '_'", "rename"),
        prepare=own_folder("_", "fir"),
    ),
    Wrong(
        "own long name",
        (*OWN, "{tmp}/own"),
        ("at most 77", "shorten this class name"),
        prepare=own_folder("fir", "x y " * 60),
    ),
    Wrong(
        "own broken",
        (*OWN, "{tmp}/own"),
        (r"Cannot read the image .*\.png", "take it out"),
        prepare=broken_picture,
        early=False,
    ),
    Wrong(
        "class count",
        ("DATASET.SUBSAMPLE_CLASSES", "all", "TRAINER.COOP.CSC", "True"),
        (r"context has shape \(3, .*makes \(6, ", "CSC"),
        trainer="CoOp",
        flags=("--eval-only", "--model-dir", "{csc}"),
    ),
)
