"""Every loader on small drawn data in the real layouts, and what users read without data."""

import importlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.utils import set_random_seed
from datasets import _cache
from datasets.stanford_cars import year_first
from datasets.sun397 import scene_name
from datasets.ucf101 import action_words
from tools.data.catalogue import catalogue
from tools.data.toy import toy_names, write_toy

CONFIGS = Path(__file__).parents[1] / "configs" / "datasets"
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


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


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


# ---------------------------------------------------------------- ImageNet


def test_imagenet_lists_its_folders_once(drawn, monkeypatch):
    load("imagenet", drawn, 2)
    monkeypatch.setattr(_cache, "list_images", lambda folder: pytest.fail(f"listed {folder}"))
    load("imagenet", drawn, 2)


def test_images_are_not_looked_at(drawn, monkeypatch):
    """No stat of any picture: with a million files on a network disk that takes minutes."""
    load("imagenet", drawn)
    load("dtd", drawn)
    real_stat = os.stat

    def stat(path, **kw):
        assert not str(path).endswith((".jpg", ".JPEG")), path
        return real_stat(path, **kw)

    monkeypatch.setattr(os, "stat", stat)
    load("imagenet", drawn)
    load("dtd", drawn)


def test_variants_share_imagenets_classnames(drawn, tmp_path):
    shutil.copytree(drawn / "imagenet-sketch", tmp_path / "imagenet-sketch")
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet-sketch/classnames.txt").rename(tmp_path / "imagenet/classnames.txt")
    assert load("imagenet_sketch", tmp_path).classnames == toy_names("imagenet", CLASSES)
    (tmp_path / "imagenet/classnames.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"classnames.txt is missing"):
        load("imagenet_sketch", tmp_path)


def test_imagenetv2_folders_are_positions_not_strings(tmp_path):
    folder = tmp_path / "imagenetv2"
    for position in range(12):
        fill(folder / "imagenetv2-matched-frequency-format-val" / str(position), 1, ".jpeg")
    lines = [f"n{90000000 - position} name {position}\n" for position in range(12)]
    (folder / "classnames.txt").write_text("".join(lines))
    dataset = load("imagenetv2", tmp_path)
    assert dataset.classnames == [f"name {position}" for position in range(12)]
    assert all(Path(d.impath).parent.name == str(d.label) for d in dataset.test)


def test_imagenet_with_unsorted_validation_images(drawn, tmp_path):
    shutil.copytree(drawn / "imagenet", tmp_path / "imagenet")
    val = tmp_path / "imagenet/images/val"
    shutil.rmtree(val)
    fill(val, 3, ".JPEG")
    with pytest.raises(ValueError, match="must be sorted into one folder per class"):
        load("imagenet", tmp_path)


def test_imagenet_uses_coops_listing(drawn, tmp_path):
    import pickle

    shutil.copytree(drawn / "imagenet", tmp_path / "imagenet")
    dataset = load("imagenet", tmp_path)
    for datum in dataset.train_x + dataset.test:
        datum._impath = datum._impath.replace(str(tmp_path), "/gone")
    content = {"train": dataset.train_x[:-1], "test": dataset.test}
    listing = tmp_path / "imagenet/preprocessed.pkl"
    listing.write_bytes(pickle.dumps(content))
    again = load("imagenet", tmp_path)
    assert len(again.train_x) == len(dataset.train_x) - 1
    assert all(os.path.isfile(path) for path in paths(again.train_x + again.test))
    listing.write_bytes(pickle.dumps({"train": [os.getcwd], "test": []}))
    with pytest.raises(ValueError, match=r"preprocessed\.pkl is not a cache"):
        load("imagenet", tmp_path)


# ---------------------------------------------------------------- missing data


def missing_text(config, root, **options):
    with pytest.raises(FileNotFoundError) as error:
        load(config, root, **options)
    text = str(error.value)
    assert len(text.splitlines()) <= 12
    assert "make demo" in text
    assert "docs/DATASETS.md" in text
    return text


def test_missing_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = missing_text("dtd", "no_such")
    assert "the data root does not exist" in text
    assert max(map(len, text.replace(str(tmp_path), "").splitlines())) < 100
    assert str(tmp_path / "no_such") in text
    assert "--root no_such" in text
    assert "python -m tools.data download dtd --root no_such" in text


def test_missing_folder_of_the_data_set(tmp_path):
    (tmp_path / "eurosat").mkdir()
    text = missing_text("dtd", tmp_path)
    assert "the data root has no folder dtd; its folders: eurosat" in text
    assert str(tmp_path / "dtd") in text
    (tmp_path / "Caltech_101").mkdir()
    assert "did you mean its folder 'Caltech_101'?" in missing_text("caltech101", tmp_path)


def test_root_that_is_the_data_set_itself(tmp_path):
    fill(tmp_path / "dtd/images/lined", 4)
    assert "must be the folder that holds dtd/" in missing_text("dtd", tmp_path / "dtd")


def test_missing_images(tmp_path):
    (tmp_path / "dtd").mkdir()
    assert "dtd/ is there, the images in images/ are not" in missing_text("dtd", tmp_path)
    (tmp_path / "dtd/images").mkdir()
    assert "the folder is empty" in missing_text("dtd", tmp_path)
    fill(tmp_path / "stanford_cars/cars_train", 1)
    assert "images in cars_test/ are not" in missing_text("stanford_cars", tmp_path)


def test_missing_annotations(tmp_path):
    fill(tmp_path / "oxford_pets/images", 1)
    text = missing_text("oxford_pets", tmp_path)
    assert "split_zhou_OxfordPets.json is missing, and so is annotations/trainval.txt" in text
    fill(tmp_path / "colored_shapes/images/red_circle", 1)
    text = missing_text("colored_shapes", tmp_path)
    assert "split_zhou_ColoredShapes.json is missing" in text
    assert f"python -m tools.toy {tmp_path}" in text


def test_empty_root():
    with pytest.raises(ValueError, match="--root FOLDER"):
        load("dtd", "")


def test_relative_root(drawn, monkeypatch):
    monkeypatch.chdir(drawn.parent)
    dataset = load("dtd", drawn.name)
    assert dataset.train_x[0].impath.startswith(str(drawn))


def test_template_of_the_config_wins(drawn):
    assert load("dtd", drawn, TEMPLATE="a {} surface").template == "a {} surface"


# ---------------------------------------------------------------- own pictures


def own_folder(tmp_path, parts=("",), count=10):
    folder = tmp_path / "my pictures"
    for part in parts:
        for name in ("oak tree", "beech", "fir"):
            fill(folder / part / name, count, ".PNG")
    return folder


def load_own(path, root="", **options):
    return load("image_folder", root, PATH=str(path), **options)


def test_one_level_is_split_once(tmp_path, capsys):
    folder = own_folder(tmp_path)
    dataset = load_own(folder, TEMPLATE="a leaf of {}.")
    assert dataset.classnames == ["beech", "fir", "oak tree"]
    assert sizes(dataset) == (15, 6, 9)
    assert dataset.template == "a leaf of {}."
    record = json.loads((folder / "split.json").read_text())
    assert [len(record[part]) for part in record] == [15, 6, 9]
    fill(folder / "fir", 12, ".PNG")
    assert paths(load_own(folder).train_x) == paths(dataset.train_x)
    assert "2 pictures are not in its split" in capsys.readouterr().out
    gone = Path(dataset.test[0].impath)
    gone.unlink()
    with pytest.raises(ValueError, match=f"1 pictures .* are gone, first {gone.parent.name}/"):
        load_own(folder)


def test_one_level_serves_shots_and_halves(tmp_path):
    folder = own_folder(tmp_path)
    assert load_own(folder, shots=2, subsample="base").classnames == ["beech", "fir"]
    assert sizes(load_own(folder, shots=2, subsample="new")) == (2, 2, 3)
    assert load_own(folder, shots=2).num_classes == 3  # split_fewshot/ is no class


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val", "test")])
def test_ready_made_parts(tmp_path, parts):
    folder = own_folder(tmp_path, parts, count=2)
    dataset = load_own(folder)
    assert sizes(dataset) == (6, 6 if "val" in parts else 0, 6)
    assert all("/test/" in path for path in paths(dataset.test))
    assert not (folder / "split.json").exists()
    assert sizes(load_own(folder, shots=1)) == (3, 3 if "val" in parts else 0, 6)


def test_classnames_file(tmp_path):
    folder = own_folder(tmp_path)
    load_own(folder)
    (folder / "classnames.txt").write_text("beech a common beech\noak tree\tan old oak\n\n")
    assert load_own(folder).classnames == ["a common beech", "fir", "an old oak"]
    (folder / "classnames.txt").write_text("beach sand\n")
    with pytest.raises(ValueError, match="did you mean 'beech'"):
        load_own(folder)


def test_own_path_is_relative_to_here_or_to_the_root(tmp_path, monkeypatch):
    own_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert sizes(load_own("my pictures")) == (15, 6, 9)
    monkeypatch.chdir("/")
    assert sizes(load_own("my pictures", root=tmp_path)) == (15, 6, 9)


def test_own_folder_faults(tmp_path):
    with pytest.raises(ValueError, match=r"DATASET.PATH is empty"):
        load_own("")
    assert "there is no such folder" in missing_text("image_folder", "", PATH=str(tmp_path / "no"))
    folder = own_folder(tmp_path, ("train", "test"))
    shutil.rmtree(folder / "test")
    with pytest.raises(ValueError, match="there is train/ but no test/"):
        load_own(folder)
    fill(folder / "test/beach", 1)
    with pytest.raises(ValueError, match="test/ has the class folder 'beach', train/ has not"):
        load_own(folder)
    fill(folder / "train/beach", 1, ".heic")
    with pytest.raises(ValueError, match=r"beach holds no pictures \(.jpg"):
        load_own(folder)
    (tmp_path / "flat").mkdir()
    fill(tmp_path / "flat", 3)
    with pytest.raises(ValueError, match="holds no class folders"):
        load_own(tmp_path / "flat")


def test_read_only_own_folder_is_split_the_same_every_time(tmp_path, monkeypatch):
    folder = own_folder(tmp_path)
    real_open = open

    def refuse(path, mode="r", *args, **kw):
        if "x" in mode and str(path).startswith(str(folder)):
            raise PermissionError(13, "read-only", str(path))
        return real_open(path, mode, *args, **kw)

    monkeypatch.setattr("builtins.open", refuse)
    first, second = load_own(folder, shots=2), load_own(folder, shots=2)
    assert paths(first.train_x) == paths(second.train_x)
    assert not list(folder.rglob("*.json"))


def test_engine_builds_them_by_name(drawn):
    from experiment.config import default_config

    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / "dtd.yaml"))
    cfg.merge_from_list(["DATASET.ROOT", str(drawn), "DATASET.NUM_SHOTS", 2, "SEED", 1])
    assert sizes(build_dataset(cfg)) == (10, 10, 15)
