"""tools.predict: which pictures are read, and what is said of those that cannot be."""

import shutil

import numpy as np
import pytest

from dassl.utils import read_image
from dassl.utils.images import TooLarge
from tests.helpers.hostile import png
from tests.helpers.image_files import gradient, png16
from tests.helpers.predict_runs import answers
from tools.predict.__main__ import main
from tools.predict.images import find_images, reason


def test_bad_pictures_are_skipped_and_listed(run, tmp_path, picture, capsys):
    folder = tmp_path / "pictures"
    (folder / "empty").mkdir(parents=True)
    with open(picture, "rb") as file:
        whole = file.read()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("hello")
    (folder / "none.gif").write_bytes(b"")
    (folder / "bomb.png").write_bytes(png(30_000, 30_000))
    (folder / "12.png").write_bytes(png16(gradient().astype(np.uint16) * 16))
    (folder / "link.png").symlink_to("nowhere.png")
    shutil.copy(picture, folder / "good.png")
    places = (folder, folder / "empty", tmp_path / "nowhere.png", picture)
    found = answers(capsys, "--model-dir", run, *places, code=1)
    assert [p["image"] for p in found["predictions"]] == [str(folder / "good.png"), picture]
    assert found["predictions"][0]["top"] == found["predictions"][1]["top"]
    reasons = {s["image"].rpartition("/")[2]: s["reason"] for s in found["skipped"]}
    assert reasons.keys() == {
        *("cut.png", "text.jpg", "none.gif", "bomb.png", "link.png", "empty", "nowhere.png"),
        "12.png",
    }
    assert "900000000 pixels" in reasons["bomb.png"]
    assert reasons["text.jpg"].startswith("not an image; read are JPEG, PNG")
    assert reasons["none.gif"].startswith("the file is empty")
    assert "docs/DATASETS.md" in reasons["12.png"] and "mode I;16, values 0 to" in reasons["12.png"]
    assert reasons["cut.png"].startswith("damaged: ")
    assert reasons["empty"] == "no images in this directory"
    assert main(["--model-dir", str(run), *map(str, places)]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("good.png") == 1 and "skipped 8:\n" in shown.err
    assert f"  {folder / 'cut.png'}: damaged" in shown.err
    assert main(["--model-dir", str(run), str(folder / "cut.png")]) == 1
    assert not capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_no_damage(tmp_path):
    file = tmp_path / "large.png"
    file.write_bytes(png(10_000, 10_000))
    with pytest.raises(OSError) as refusal:
        read_image(file)
    assert isinstance(refusal.value.__cause__, TooLarge)
    assert reason(refusal.value) == "refused for its size: 10000 x 10000 pixels are too many"


def test_folders_are_walked_in_order(tmp_path):
    for name in ("b/2.jpg", "b/10.JPEG", "a.png", "c.txt", ".hidden.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    found, skipped = find_images([str(tmp_path)])
    assert [file.removeprefix(f"{tmp_path}/") for file in found] == [
        "a.png",
        "b/10.JPEG",
        "b/2.jpg",
    ]
    assert not skipped


def test_many_are_read_by_workers(run, toy, tmp_path, capsys):
    folder = toy / "colored_shapes" / "images"
    alone = answers(capsys, "--model-dir", run, "--workers", 0, "--batch-size", 7, folder)
    both = answers(capsys, "--model-dir", run, "--workers", 2, "--batch-size", 7, folder)
    assert alone == both and len(alone["predictions"]) == 54
