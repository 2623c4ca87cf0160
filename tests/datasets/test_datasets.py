"""Every loader on small drawn data in the real layouts, and what users read without data."""

import importlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.utils import set_random_seed
from datasets.stanford_cars import year_first
from datasets.sun397 import scene_name
from datasets.ucf101 import action_words
from tools.data.catalogue import catalogue
from tools.data.toy import write_toy

CONFIGS = Path(__file__).parents[2] / "configs" / "datasets"
NAMES = {
    "imagenet": "ImageNet",
    "caltech101": "Caltech101",
    "oxford_pets": "OxfordPets",
    "stanford_cars": "StanfordCars",
    "oxford_flowers": "OxfordFlowers",
    "food101": "Food101",
    "fgvc_aircraft": "FGVCAircraft",
    "sun397": "SUN397",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "ucf101": "UCF101",
    "imagenetv2": "ImageNetV2",
    "imagenet_sketch": "ImageNetSketch",
    "imagenet_a": "ImageNetA",
    "imagenet_r": "ImageNetR",
}
TEMPLATES = {
    "oxford_pets": "a photo of a {}, a type of pet.",
    "oxford_flowers": "a photo of a {}, a type of flower.",
    "fgvc_aircraft": "a photo of a {}, a type of aircraft.",
    "dtd": "{} texture.",
    "eurosat": "a centered satellite photo of {}.",
    "food101": "a photo of {}, a type of food.",
    "ucf101": "a photo of a person doing {}.",
}
CLASSES, TRAIN = 5, 5
HAS_SPLIT_FILE = [c for c in NAMES if c != "fgvc_aircraft" and not c.startswith("imagenet")]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """All layouts, raw annotations only; for tests that change nothing but split files."""
    root = tmp_path_factory.mktemp("toy")
    write_toy(root, classes=CLASSES, train=TRAIN, size=16)
    return root


def load(config, root, shots=-1, subsample="all", seed=1, **options):
    module = importlib.import_module(f"datasets.{config}")
    name = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())["DATASET"]["NAME"]
    node = SimpleNamespace(
        ROOT=str(root), NUM_SHOTS=shots, SUBSAMPLE_CLASSES=subsample, **{"TEMPLATE": "", **options}
    )
    return getattr(module, name)(SimpleNamespace(DATASET=node, SEED=seed))


def paths(items):
    return [item.impath for item in items or []]


def sizes(dataset):
    return tuple(len(part or []) for part in (dataset.train_x, dataset.val, dataset.test))


# ---------------------------------------------------------------- all fifteen


def test_every_config_names_its_data_set_and_file():
    found = {file.stem: yaml.safe_load(file.read_text()) for file in CONFIGS.glob("*.yaml")}
    names = {config: content["DATASET"]["NAME"] for config, content in found.items()}
    assert names == {**NAMES, "colored_shapes": "ColoredShapes", "image_folder": "ImageFolder"}
    for config, name in names.items():
        module = importlib.import_module(f"datasets.{config}")
        assert DATASET_REGISTRY.get(name) is getattr(module, name)
    assert {entry.config: entry.name for entry in catalogue().values()} == NAMES
    for config, entry in catalogue().items():
        module = importlib.import_module(f"datasets.{config}")
        assert getattr(module, entry.name).dataset_dir == entry.folder


@pytest.mark.parametrize("config", NAMES)
def test_loader_serves_all_base_and_new(drawn, config):
    whole, base, new = (load(config, drawn, 2, part) for part in ("all", "base", "new"))
    classes = 3 if config in ("imagenet_a", "imagenet_r") else CLASSES
    half = (classes + 1) // 2
    assert (whole.num_classes, base.num_classes, new.num_classes) == (classes, half, classes - half)
    assert base.classnames + new.classnames == whole.classnames
    assert len(set(whole.classnames)) == classes
    assert whole.template == TEMPLATES.get(config, "a photo of a {}.")
    for part in ("train_x", "val", "test"):
        halves = [set(paths(getattr(dataset, part))) for dataset in (base, new)]
        assert halves[0] | halves[1] == set(paths(getattr(whole, part)))
        assert not halves[0] & halves[1]
    for dataset in (whole, base, new):
        assert {d.label for d in dataset.test} == set(range(dataset.num_classes))
        assert all(dataset.lab2cname[d.label] == d.classname for d in dataset.test)
        assert all(os.path.isfile(path) for path in paths(dataset.train_x + dataset.test))


@pytest.mark.parametrize("config", NAMES)
def test_sizes_and_shots(drawn, config):
    every, shots = load(config, drawn), load(config, drawn, 4)
    if config in ("imagenet_a", "imagenet_r"):
        assert sizes(every) == sizes(shots) == (9, 0, 9)
    elif config in ("imagenetv2", "imagenet_sketch"):
        assert sizes(every) == sizes(shots) == (15, 0, 15)
    elif config == "imagenet":
        assert (sizes(every), sizes(shots)) == ((25, 15, 15), (20, 15, 15))
        assert paths(every.val) == paths(every.test)
    else:
        val = len(every.val)
        assert (sizes(every), sizes(shots)) == ((25, val, 15), (20, val, 15))
        assert val in (5, 10)
        assert not set(paths(every.train_x)) & set(paths(every.val + every.test))


@pytest.mark.parametrize("config", HAS_SPLIT_FILE)
def test_split_is_made_once_saved_and_the_same_again(drawn, tmp_path, config):
    made = load(config, drawn)
    (file,) = Path(made.dataset_dir).glob("split_zhou_*.json")
    content = file.read_text()
    assert str(drawn) not in content
    read = load(config, drawn)
    for part in ("train_x", "val", "test"):
        assert paths(getattr(read, part)) == paths(getattr(made, part))
    file.unlink()
    set_random_seed(99)
    load(config, drawn, seed=5)
    assert file.read_text() == content


@pytest.mark.parametrize("config", ["oxford_pets", "ucf101", "sun397", "stanford_cars"])
def test_official_test_lists_are_kept(drawn, config):
    """The test pictures are those that the layout listed for testing: the highest numbers."""
    dataset = load(config, drawn)
    if config == "stanford_cars":
        assert {Path(path).parent.name for path in paths(dataset.test)} == {"cars_test"}
        trained = dataset.train_x + dataset.val
        assert {Path(path).parent.name for path in paths(trained)} == {"cars_train"}
    else:
        first_test = TRAIN + round(TRAIN / 4) + 1
        for item in dataset.test:
            number = item.impath.removesuffix("_c01.jpg").removesuffix(".jpg")
            assert int(number[-2:].strip("_g")) >= first_test


def test_names_are_made_as_published():
    assert scene_name("a/apartment_building/outdoor") == "outdoor apartment_building"
    assert scene_name("a/abbey") == "abbey"
    assert action_words("ApplyEyeMakeup") == "Apply_Eye_Makeup"
    assert year_first("AM General Hummer SUV 2000") == "2000 AM General Hummer SUV"


def test_caltech_and_eurosat_rename_and_leave_out(tmp_path):
    caltech = tmp_path / "caltech-101/101_ObjectCategories"
    for name in ("BACKGROUND_Google", "Faces_easy", "Faces", "Leopards", "airplanes", "accordion"):
        fill(caltech / name, 4)
    assert load("caltech101", tmp_path).classnames == ["face", "leopard", "accordion", "airplane"]
    for name in ("SeaLake", "AnnualCrop", "Highway"):
        fill(tmp_path / "eurosat/2750" / name, 4)
    names = ["Annual Crop Land", "Highway or Road", "Sea or Lake"]
    assert load("eurosat", tmp_path).classnames == names


def fill(folder, count, suffix=".jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}{suffix}").touch()


def test_class_with_too_few_images_is_named(tmp_path):
    fill(tmp_path / "dtd/images/lined", 4)
    fill(tmp_path / "dtd/images/dotted", 3)
    with pytest.raises(ValueError, match=r"'dotted' has 3 images, too few.*at least 4"):
        load("dtd", tmp_path)
    assert not list((tmp_path / "dtd").glob("*.json"))


@pytest.mark.parametrize(
    ("config", "file", "content", "message"),
    [
        ("oxford_pets", "annotations/test.txt", "Abyssinian_1 1\n", "line 1: expected 3 fields"),
        ("fgvc_aircraft", "images_variant_val.txt", "1 Concorde\n", "has 'Concorde'"),
        ("sun397", "Testing_01.txt", "/a/abbey/1.jpg\n", "has the class 'a/abbey'"),
        ("ucf101", "ucfTrainTestlist/testlist01.txt", "Yo/v.avi\n", "has the action 'Yo'"),
        ("oxford_flowers", "imagelabels.mat", "no", "imagelabels.mat is not a MATLAB file"),
        ("stanford_cars", "devkit/cars_meta.mat", "no", "cars_meta.mat is not a MATLAB file"),
        ("imagenet", "classnames.txt", "n1 a\n", "no line for the class folder 'n10000000'"),
        ("imagenet_a", "classnames.txt", "n1\n", "line 1: expected 2 fields"),
        ("imagenetv2", "classnames.txt", "n1 a\n", "expected 1 folders, found 5"),
    ],
)
def test_damaged_annotations(drawn, tmp_path, config, file, content, message):
    folder = catalogue()[config].folder
    ignore = shutil.ignore_patterns("split_*")
    shutil.copytree(drawn / folder, tmp_path / folder, ignore=ignore, symlinks=True)
    (tmp_path / folder / file).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load(config, tmp_path)
    assert str(tmp_path / folder) in str(error.value)


def test_engine_builds_them_by_name(drawn):
    from run.config import default_config

    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / "dtd.yaml"))
    cfg.merge_from_list(["DATASET.ROOT", str(drawn), "DATASET.NUM_SHOTS", 2, "SEED", 1])
    assert sizes(build_dataset(cfg)) == (10, 10, 15)
