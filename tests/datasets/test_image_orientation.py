"""INPUT.EXIF_ORIENTATION: which way up images are, in training, prediction and export."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageOps

import train
from dassl.data.datasets import Datum
from dassl.data.wrapper import DatasetWrapper
from dassl.utils import read_image
from dassl.utils.images import TURNS, as_rgb
from run.config import build_config, default_config
from run.identity import check_continues, planned
from tests.helpers.image_files import gradient
from tests.helpers.predict_runs import answers, refused
from tests.helpers.toy_run import command, config
from tools.predict import load
from tools.predict.__main__ import main
from tools.predict.export_readme import readme

KEY = "INPUT.EXIF_ORIENTATION"


def tilted(file: Path, value: int = 6, size=(48, 40)) -> Path:
    """An image that is to be turned; the upper left is red."""
    image = Image.fromarray(gradient()).resize(size).convert("RGB")
    image.paste((255, 0, 0), (0, 0, 12, 8))
    exif = Image.Exif()
    exif[274] = value
    image.save(file, exif=exif, **({"lossless": True} if file.suffix == ".webp" else {}))
    return file


def by_pillow(file: Path, upright: bool) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray((ImageOps.exif_transpose(image) if upright else image).convert("RGB"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("value", [0, 1, *TURNS, 9])
def test_images_are_turned_if_asked(suffix, value, tmp_path):
    file = tilted(tmp_path / f"a.{suffix}", value)
    for upright in (True, False):
        assert np.array_equal(read_image(file, upright), by_pillow(file, upright))
    with Image.open(file) as image:
        assert np.array_equal(as_rgb(image.copy(), True), by_pillow(file, True))


@pytest.mark.parametrize("upright", [True, False])
def test_a_tiff_is_turned_once(upright, tmp_path):
    """Pillow turns it by itself, and always did."""
    file = tilted(tmp_path / "a.tif")
    assert read_image(file, upright).size == (40, 48)
    assert np.array_equal(read_image(file, upright), by_pillow(file, False))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_says_nothing(tmp_path):
    file = tmp_path / "a.jpg"
    Image.fromarray(gradient()).save(file, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(read_image(file, upright=True), by_pillow(file, False))


def test_what_auto_means(toy):
    base = command(toy, "MMRL", toy / "out")
    own = (*base, "DATASET.NAME", "ImageFolder")
    values = ([], ["auto"], ["apply"], ["ignore"])
    meant = [
        [config(*arguments, *(KEY, *v)[: 2 * len(v)])[0].INPUT.EXIF_ORIENTATION for v in values]
        for arguments in (base, own)
    ]
    assert meant == [
        ["ignore", "ignore", "apply", "ignore"],
        ["apply", "apply", "apply", "ignore"],
    ]


@pytest.mark.parametrize(("value", "size"), [("apply", (40, 48)), ("ignore", (48, 40))])
def test_what_training_sees(value, size, tmp_path):
    cfg = default_config()
    cfg.INPUT.EXIF_ORIENTATION = value
    file = tilted(tmp_path / "a.png")
    assert DatasetWrapper(cfg, [Datum(str(file))])[0]["img"].size == size


def rewrite(run: Path, value: str | None) -> None:
    """Make a run one that was trained with this value, or before the key existed."""
    content = yaml.safe_load((run / "config.yaml").read_text())
    assert content["INPUT"].pop("EXIF_ORIENTATION") == "ignore"
    content["INPUT"] |= {"EXIF_ORIENTATION": value} if value else {}
    (run / "config.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("of_run", "given", "upright"),
    [
        ("apply", None, True),
        ("ignore", None, False),
        (None, None, False),
        (None, "apply", True),
        ("apply", "ignore", False),
    ],
)
def test_prediction_sees_what_training_saw(of_run, given, upright, run, tmp_path):
    rewrite(run, of_run)
    file, plain = tilted(tmp_path / "a.png"), tmp_path / "plain.png"
    Image.fromarray(by_pillow(file, upright)).save(plain)
    clf = load(run, exif_orientation=given)
    expected = clf.logits(plain)
    with Image.open(file) as image:
        for same in (file, image):
            assert torch.equal(clf.logits(same), expected)
    ((_, streamed),) = clf.stream([str(file)])
    assert streamed == clf(plain)[0]
    assert clf.tilted == ([] if upright else [str(file)])


def test_the_command_says_what_it_ignored(run, picture, tmp_path, capsys):
    file, other = tilted(tmp_path / "a.jpg"), tilted(tmp_path / "no.jpg", 9)
    places = ("--model-dir", str(run), str(file), str(other), picture)
    assert main(list(places)) == 0
    note = capsys.readouterr().err
    assert f"note: 1 images, first {file}, are not upright" in note
    assert "--exif-orientation apply" in note
    for value in ("apply", "ignore"):
        assert main([*places, "--exif-orientation", value]) == 0
        assert "note" not in capsys.readouterr().err
    found = answers(capsys, *places, "--exif-orientation", "apply")
    assert found["exif_orientation"] == "apply"
    message = refused(capsys, *places, "--exif-orientation", "auto")
    assert "--exif-orientation 'auto': allowed are apply and ignore" in message


def test_a_run_is_not_continued_the_other_way(trained, toy):
    """An older one, which does not say it, ignored the orientation."""
    args = train.parse_args(command(toy, "MMRL", trained, opts=("TRAIN.CHECKPOINT_FREQ", "1")))
    cfg, _ = build_config(args)
    for newer in ("identity.json", "results.json"):
        (trained / newer).unlink()
    shutil.rmtree(trained / "text_features", ignore_errors=True)
    rewrite(trained, None)
    check_continues(planned(cfg, args), trained, dict)
    cfg.defrost()
    cfg.INPUT.EXIF_ORIENTATION = "apply"
    with pytest.raises(ValueError, match=f"{KEY}: ignore there, apply now"):
        check_continues(planned(cfg, args), trained, dict)


@pytest.mark.parametrize("value", ["apply", "ignore"])
def test_an_export_prepares_images_alike(value, run, tmp_path):
    from tools.predict.export import manifest

    clf = load(run, exif_orientation=value)
    content = json.loads(json.dumps(manifest(clf, "a.onnx", 0.0)))
    names = {"manifest": content, "np": np, "Image": Image, "ImageOps": ImageOps}
    text = readme(content)
    exec("import sys\n" + text[text.index("def prepare") : text.index("def softmax")], names)
    for file in (tilted(tmp_path / "a.png"), tilted(tmp_path / "b.jpg", 1)):
        expected = clf.transform(read_image(file, value == "apply"))
        assert np.allclose(names["prepare"](file), expected, atol=1e-5)
    Image.fromarray(gradient().astype(np.uint16) * 257).save(tmp_path / "16.png")
    with pytest.raises(SystemExit, match=r"16\.png has more than 8 bits"):
        names["prepare"](tmp_path / "16.png")


def test_a_test_sees_what_training_saw(trained, toy):
    """Also of weights that were trained before the key existed, unless it is told otherwise."""
    rewrite(trained, None)
    own = (*command(toy, "MMRL", toy / "out"), "DATASET.NAME", "ImageFolder")
    file = trained / "config.yaml"
    file.write_text(file.read_text().replace("NAME: ColoredShapes", "NAME: ImageFolder"))
    tests = ["--eval-only", "--model-dir", str(trained), *own]
    assert config(*tests)[0].INPUT.EXIF_ORIENTATION == "ignore"
    assert config(*tests, KEY, "apply")[0].INPUT.EXIF_ORIENTATION == "apply"
    assert config(*tests, "DATASET.NAME", "ColoredShapes")[0].INPUT.EXIF_ORIENTATION == "ignore"
    assert config(*own)[0].INPUT.EXIF_ORIENTATION == "apply"
