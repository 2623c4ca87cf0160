"""`python -m tools.predict` and `tools.predict.load`: a trained method on pictures."""

import csv
import functools
import json
import shlex
import shutil
import subprocess
import sys
import zlib

import pytest
import torch
import yaml
from PIL import Image

import train
from dassl.utils import read_image
from dassl.utils.tools import TooLarge
from tests.test_plugins import TRAINER, forgotten, tiles  # noqa: F401
from tests.test_plugins import command as plugin_command
from tests.toy_run import CLASSES, REPO, build, classify, command, trainer_names
from tools.predict import load
from tools.predict.__main__ import check_args, main, parse_args, read_classes
from tools.predict.pictures import find_pictures, reason

SAVE = ("TEST.SAVE_PREDICTIONS", "True")


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """Run folders by trainer and options, each trained when it is first asked for."""
    root, made = tmp_path_factory.mktemp("runs"), {}

    def run(trainer, *opts):
        if (trainer, opts) not in made:
            folder = root / f"{trainer}{len(made)}"
            assert train.main(command(toy, trainer, folder, opts=(*SAVE, *opts))) == 0
            made[trainer, opts] = folder
        return made[trainer, opts]

    return run


@pytest.fixture
def run(runs, tmp_path):
    """A copy of a run of MMRL, with no text features kept yet."""
    ignore = shutil.ignore_patterns("text_features")
    return shutil.copytree(runs("MMRL"), tmp_path / "run", ignore=ignore)


@pytest.fixture
def picture(toy):
    return str(toy / "colored_shapes" / "images" / "red_square" / "test_1.png")


def answers(capsys, *arguments, code=0) -> dict:
    capsys.readouterr()
    assert main(["--json", *map(str, arguments)]) == code
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments) -> str:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") < 6
    return message


# The same numbers as the tests of a run


def compare(folder, toy, found) -> None:
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found) == 9
    for row, item in zip(rows, found, strict=True):
        assert item["image"] == str(toy / "colored_shapes" / row["impath"])
        (best,) = item["top"]
        assert best["label"] == int(row["prediction"])
        assert best["probability"] == pytest.approx(float(row["probability"]), rel=1e-6)


def listed(folder, toy) -> list[str]:
    with (folder / "predictions.csv").open(newline="") as file:
        return [str(toy / "colored_shapes" / row["impath"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("trainer", trainer_names())
def test_equals_the_test_of_a_run(trainer, runs, toy, tmp_path, capsys):
    folder = runs(trainer)
    for _ in range(2):  # with and from the kept text features
        found = answers(capsys, "--model-dir", folder, "--topk", 1, *listed(folder, toy))
        compare(folder, toy, found["predictions"])
    assert found["classes"] == list(CLASSES[:3])
    assert (folder / "text_features").is_dir() == (trainer != "CoCoOp")
    new = tmp_path / "new"
    opts = (*SAVE, "DATASET.SUBSAMPLE_CLASSES", "new")
    flags = ("--eval-only", "--model-dir", str(folder))
    assert train.main(command(toy, trainer, new, *flags, opts=opts)) == 0
    names = ("--classes", ",".join(CLASSES[3:]))
    found = answers(capsys, "--model-dir", folder, "--topk", 1, *names, *listed(new, toy))
    compare(new, toy, found["predictions"])
    assert not found["seen_classes"]


@pytest.mark.parametrize("opts", [("TRAINER.COOP.CSC", "True"), ("TRAINER.COOP.PREC", "amp")])
def test_other_settings(opts, runs, toy, capsys):
    folder = runs("CoOp", *opts)
    for _ in range(2):
        found = answers(capsys, "--model-dir", folder, "--topk", 1, *listed(folder, toy))
        compare(folder, toy, found["predictions"])


def test_needs_no_data_set_and_no_weights_where_they_were(runs, toy, tmp_path, picture, capsys):
    """As on another machine: only the run's folder, a CLIP and a picture."""
    for trainer in ("MMRL", "ZeroshotCLIP"):
        folder = shutil.copytree(runs(trainer), tmp_path / trainer)
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace(str(toy), "/nowhere"))
        clip = shutil.copy(toy / "narrow.pt", tmp_path / "clip.pt")
        here = shutil.copy(picture, tmp_path / "here.png")
        assert "/nowhere/narrow.pt" in refused(capsys, "--model-dir", folder, here)
        found = answers(capsys, "--model-dir", folder, "--backbone", clip, here)
        before = answers(capsys, "--model-dir", runs(trainer), picture)
        assert found["predictions"][0]["top"] == before["predictions"][0]["top"]


def test_a_run_that_was_best_on_validation(runs, toy, capsys):
    folder = runs("MMRL", "TEST.FINAL_MODEL", "best_val")
    found = answers(capsys, "--model-dir", folder, "--topk", 1, *listed(folder, toy))
    compare(folder, toy, found["predictions"])


def test_half_precision_of_a_gpu_becomes_fp32_on_a_cpu(run, picture):
    config = run / "config.yaml"
    expected = load(run, device="cpu").logits(picture)
    config.write_text(config.read_text().replace("PREC: fp32", "PREC: fp16"))
    assert torch.equal(load(run, device="cpu").logits(picture), expected)
    with pytest.raises(ValueError, match="fp16 needs a CUDA device"):
        load(run, device="cpu", precision="fp16")
    rough = load(run, device="cpu", precision="amp").logits(picture)
    assert not torch.equal(rough, expected) and torch.allclose(rough, expected, atol=2)


@pytest.mark.gpu
def test_on_a_gpu(run, picture):
    on_gpu, on_cpu = (load(run, device=device).logits(picture) for device in ("cuda", "cpu"))
    assert torch.allclose(on_gpu, on_cpu, atol=0.05) and on_gpu.device.type == "cpu"


# From Python


def test_what_may_be_given(run, toy):
    files = sorted((toy / "colored_shapes" / "images" / "blue_circle").glob("test_*.png"))
    clf = load(run)
    pictures = [Image.open(file).copy() for file in files]
    logits = clf.logits(files)
    assert logits.shape == (3, 3) and logits.dtype == torch.float32
    for same in (
        list(map(str, files)),
        pictures,
        torch.stack([clf.transform(p) for p in pictures]),
    ):
        assert torch.equal(clf.logits(same), logits)
    assert torch.allclose(clf.probabilities(files).sum(dim=1), torch.ones(3))
    for one in (files[0], str(files[0]), pictures[0], clf.transform(pictures[0])):
        assert torch.allclose(clf.logits(one), logits[:1], atol=1e-4)
    palette = pictures[0].convert("P")
    assert clf.logits(palette).shape == (1, 3)
    assert clf([]) == [] and clf.logits([]).shape == (0, 3)
    clf.batch_size = 2
    assert torch.allclose(clf.logits(files), logits, atol=1e-4)


def test_answers_are_sorted_and_named(run, picture):
    clf = load(run)
    (answer,) = clf(picture)
    assert [a.name for a in answer] == [clf.classes[a.label] for a in answer]
    assert sum(a.probability for a in answer) == pytest.approx(1)
    assert [a.probability for a in answer] == sorted((a.probability for a in answer), reverse=True)
    assert clf(picture, topk=2) == [answer[:2]]
    with pytest.raises(ValueError, match="topk is 0"):
        clf(picture, topk=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"must be \(N, 3, 32, 32\).*this is \(2, 3, 8, 8\)"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        ([3], "not int"),
        (["nowhere.png"], "nowhere.png"),
    ],
)
def test_what_may_not_be_given(images, message, run):
    with pytest.raises((ValueError, TypeError, OSError), match=message):
        load(run)(images)


def test_loading_leaves_generators_alone(run, capsys):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(run, cache=False)
    assert torch.equal(torch.rand(3), expected)
    shown = capsys.readouterr()
    assert not shown.out and not shown.err


def test_an_epoch_may_be_chosen(runs, toy, picture):
    folder = runs("MMRL", "TRAIN.CHECKPOINT_FREQ", "1")
    trainer = build(command(toy, "MMRL", folder))
    trainer.load_model(str(folder), epoch=1)
    pictures = listed(folder, toy)
    assert torch.equal(load(folder, epoch=1).logits(pictures), classify(trainer))
    assert not torch.equal(load(folder).logits(pictures), classify(trainer))


# What the README says


def test_the_readme(runs, toy, tmp_path, monkeypatch, capsys):
    """Its lines of Python and its commands, in a folder with the files that they name."""
    section = (REPO / "README.md").read_text().split("## Try a trained model on pictures")[1]
    section = section.split("\n## ")[0]
    shutil.copytree(runs("MMRL"), tmp_path / "output" / "my_pictures")
    source = toy / "colored_shapes" / "images" / "red_square" / "test_1.png"
    for name in ("photo.jpg", "holiday/forest.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(source).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    code = section.split("```python\n")[1].split("```")[0]
    assert len(code.split("\n")) == 5 and code.count("\n\n") == 1  # three lines
    names: dict = {}
    exec(code, names)
    assert [len(answer) for answer in names["answers"]] == [3, 3]
    commands = [line for line in section.splitlines() if line.startswith("    python -m")]
    assert len(commands) == 3
    table, listed, export = (shlex.split(command)[3:] for command in commands)
    assert main(table) == 0
    shown = capsys.readouterr().out
    rows = [line.split()[0] for line in shown.splitlines()[2:]]
    assert rows == ["photo.jpg", "holiday/forest.jpg"]
    found = answers(capsys, *listed)
    assert found["classes"] == ["oak", "birch", "red maple"]
    check_args(parse_args(export))


# Names and sentences


def test_names_from_a_file(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffred circle\r\n\nblue, square \n".encode())
    assert read_classes(str(file)) == ["red circle", "blue, square "]
    assert read_classes("red circle,blue ring") == ["red circle", "blue ring"]
    assert read_classes("cat") == ["cat"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [("names.txt", "no such file"), ("a,,b", "empty"), ("a,b, a", "twice: a"), (",", "empty")],
)
def test_names_that_cannot_be(classes, message, run, picture, capsys):
    assert message in refused(capsys, "--model-dir", run, "--classes", classes, picture)


def test_a_sentence_of_ones_own(run, picture):
    usual, other = load(run), load(run, template="a drawing of a {}.")
    assert not torch.equal(usual.text_features, other.text_features)
    assert torch.equal(
        load(run, template="a photo of a {}.").logits(picture), usual.logits(picture)
    )


def test_a_sentence_that_cannot_be(run, runs, picture, capsys):
    message = refused(capsys, "--model-dir", run, "--template", "a photo", picture)
    assert "needs a sentence with one {}" in message
    message = refused(capsys, "--model-dir", runs("CoOp"), "--template", "a {}.", picture)
    assert "--template does not apply" in message


def test_contexts_of_classes_answer_for_no_others(runs, picture, capsys):
    folder = runs("CoOp", "TRAINER.COOP.CSC", "True")
    message = refused(capsys, "--model-dir", folder, "--classes", "pink ring,green star", picture)
    assert "learned for each of 3 classes, so it cannot answer for 2 others" in message


# Text features that are kept


def test_kept_features_are_used(run, picture, monkeypatch):
    first = load(run)
    (file,) = (run / "text_features").iterdir()
    assert file.suffix == ".safetensors" and file.stat().st_mode & 0o044
    monkeypatch.delattr("trainers.mmrl.MMRLMethod.text_features")
    again = load(run)
    assert torch.equal(again.logits(picture), first.logits(picture))
    with pytest.raises(AttributeError):
        load(run, cache=False)


def test_kept_features_are_never_old(run, monkeypatch):
    def count() -> int:
        return len(list((run / "text_features").iterdir()))

    load(run)
    file = next(run.glob("*/model.pth.tar-2"))
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["state_dict"]["rep_tokens"] += 1
    torch.save(checkpoint, file)
    changed = load(run)
    assert count() == 2
    assert torch.equal(changed.text_features, load(run, cache=False).text_features)
    load(run, classes=["red circle", "pink ring"])
    load(run, classes=["pink ring", "red circle"])
    load(run, template="a {}.")
    load(run, precision="amp")
    assert count() == 6
    monkeypatch.setattr("tools.predict.text_cache.versions", lambda: {"torch": "99"})
    load(run)
    assert count() == 7
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("- 2\n    - 3", "- 1\n    - 2"))
    load(run)
    assert count() == 8
    load(run)
    assert count() == 8


@pytest.mark.parametrize("damage", [b"", b"junk" * 99, None])
def test_damaged_features_are_made_again(damage, run, picture):
    expected = load(run).logits(picture)
    (file,) = (run / "text_features").iterdir()
    other = load(run, classes=["red circle", "pink ring", "green star"])
    (new,) = set((run / "text_features").iterdir()) - {file}
    file.write_bytes(new.read_bytes() if damage is None else damage)
    assert torch.equal(load(run).logits(picture), expected)
    assert not torch.equal(other.logits(picture), expected)


def test_a_folder_that_cannot_be_written(run, picture):
    (run / "text_features").write_text("in the way")
    assert len(load(run)(picture)[0]) == 3


def test_names_without_meaning_are_told_every_time(toy, tmp_path, picture):
    assert train.main(command(toy, "MMRL", tmp_path, clip="small")) == 0
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 of 2 class names \(aardvark\)") as warned:
            load(tmp_path, classes=["aardvark", "red circle"])
        assert len(warned) == 1


def test_no_part_of_a_file_is_left(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tools.predict.text_cache.os.replace", full)
    load(run)
    assert not list((run / "text_features").iterdir())


def test_few_are_kept(run, monkeypatch):
    monkeypatch.setattr("tools.predict.text_cache.MOST_FILES", 2)
    for name in ("red circle", "pink ring", "green star"):
        load(run, classes=[name])
    assert len(list((run / "text_features").iterdir())) == 2


# Pictures


def bomb(edge: int = 30_000) -> bytes:
    """A PNG that says it has edge x edge pixels."""
    size = edge.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    parts = b""
    for kind, content in ((b"IHDR", size), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")):
        parts += len(content).to_bytes(4, "big") + kind + content
        parts += zlib.crc32(kind + content).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_bad_pictures_are_skipped_and_listed(run, tmp_path, picture, capsys):
    folder = tmp_path / "pictures"
    (folder / "empty").mkdir(parents=True)
    with open(picture, "rb") as file:
        whole = file.read()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("hello")
    (folder / "none.gif").write_bytes(b"")
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "link.png").symlink_to("nowhere.png")
    shutil.copy(picture, folder / "good.png")
    places = (folder, folder / "empty", tmp_path / "nowhere.png", picture)
    found = answers(capsys, "--model-dir", run, *places, code=1)
    assert [p["image"] for p in found["predictions"]] == [str(folder / "good.png"), picture]
    assert found["predictions"][0]["top"] == found["predictions"][1]["top"]
    reasons = {s["image"].rpartition("/")[2]: s["reason"] for s in found["skipped"]}
    assert reasons.keys() == {
        *("cut.png", "text.jpg", "none.gif", "bomb.png", "link.png", "empty", "nowhere.png")
    }
    assert "900000000 pixels" in reasons["bomb.png"]
    assert reasons["text.jpg"] == reasons["none.gif"] == "not a picture, or damaged"
    assert reasons["cut.png"].startswith("damaged: ")
    assert reasons["empty"] == "no pictures in this folder"
    assert main(["--model-dir", str(run), *map(str, places)]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("good.png") == 1 and "skipped 7:\n" in shown.err
    assert f"  {folder / 'cut.png'}: damaged" in shown.err
    assert main(["--model-dir", str(run), str(folder / "cut.png")]) == 1
    assert not capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_no_damage(tmp_path):
    file = tmp_path / "large.png"
    file.write_bytes(bomb(10_000))
    with pytest.raises(OSError) as refusal:
        read_image(file)
    assert isinstance(refusal.value.__cause__, TooLarge)
    assert reason(refusal.value) == "refused for its size: 10000 x 10000 pixels are too many"


def test_folders_are_walked_in_order(tmp_path):
    for name in ("b/2.jpg", "b/10.JPEG", "a.png", "c.txt", ".hidden.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    found, skipped = find_pictures([str(tmp_path)])
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


def test_the_table(run, picture, capsys):
    assert main(["--model-dir", str(run), "--topk", "2", picture]) == 0
    header, _, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["picture", "1", "2"]
    path, first, *_ = line.split()
    assert path == picture and float(first.removesuffix("%")) > 30


# What is wrong with the run or the command


def test_folders_that_are_no_runs(run, runs, picture, tmp_path, capsys):
    assert "no config.yaml" in refused(capsys, "--model-dir", tmp_path / "nowhere", picture)
    shutil.rmtree(run / "MultiModalRepresentationLearner")
    assert "no checkpoint of any epoch" in refused(capsys, "--model-dir", run, picture)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("NAME: MMRL", "NAME: Mine"))
    assert "--plugin FILE" in refused(capsys, "--model-dir", run, picture)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TRAINER.MMRL.REP_LAYERS", [2, 13], "REP_LAYERS is [2, 13]; allowed for"),
        ("DATALOADER.TEST.BATCH_SIZE", 0, "DATALOADER.TEST.BATCH_SIZE is 0; allowed is"),
    ],
)
def test_values_that_are_not_allowed(key, value, message, run, picture, capsys):
    tree = yaml.safe_load((run / "config.yaml").read_text())
    *above, name = key.split(".")
    functools.reduce(dict.__getitem__, above, tree)[name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    assert message in refused(capsys, "--model-dir", run, picture)


def test_damaged_names(run, picture, capsys):
    for content in ("{", '["a"]', '{"classnames": [], "template": null}'):
        (run / "classes.json").write_text(content)
        assert "classes.json is damaged" in refused(capsys, "--model-dir", run, picture)


def test_a_run_from_before_names_were_kept(run, toy, picture, capsys):
    expected = answers(capsys, "--model-dir", run, picture)
    (run / "classes.json").unlink()
    assert answers(capsys, "--model-dir", run, picture) == expected
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(f"ROOT: {toy}", "ROOT: /nowhere"))
    assert answers(capsys, "--model-dir", run, "--root", toy, picture) == expected
    capsys.readouterr()
    assert main(["--model-dir", str(run), picture]) == 2
    message = capsys.readouterr().err
    assert "has no classes.json" in message and "--root" in message and "--classes" in message
    names = ("--classes", "red circle,red square")
    assert "give --template" in refused(capsys, "--model-dir", run, *names, picture)
    sentence = ("--template", "a photo of a {}.")
    found = answers(capsys, "--model-dir", run, *names, *sentence, picture)
    assert found["classes"] == ["red circle", "red square"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give pictures or folders"),
        (("x.png", "--export", "y"), "one of the two"),
        (("x.png", "--topk", "0"), "--topk is 0"),
        (("x.png", "--workers", "-1"), "--workers is -1"),
        (("x.png", "--device", "cuda:99"), "this machine has cpu"),
        (("x.png", "--device", "tpu"), "this machine has cpu"),
        (("x.png", "--precision", "fp64"), "allowed are fp32, amp, fp16"),
        (("x.png", "--load-epoch", "9"), "no checkpoint of epoch 9"),
    ],
)
def test_wrong_commands(arguments, message, run, capsys):
    assert message in refused(capsys, "--model-dir", run, *arguments)


@pytest.mark.filterwarnings("ignore")  # of what plugins of that age call
def test_a_trainer_that_is_none_of_ours(tiles, tmp_path, picture, capsys):  # noqa: F811
    plugins = ("--plugin", str(TRAINER), "--plugin", str(TRAINER.with_name("tiles.py")))
    assert train.main(plugin_command(tiles, tmp_path / "run", *plugins)) == 0
    message = refused(capsys, "--model-dir", tmp_path / "run", *plugins[:2], picture)
    assert "not built on trainers.base.CLIPTrainer" in message and "SAVE_PREDICTIONS" in message


@pytest.mark.filterwarnings("ignore")
def test_a_plugin_built_on_ours(toy, tmp_path, picture, capsys):
    (tmp_path / "mine.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY\nfrom trainers.coop import CoOp\n"
        "@TRAINER_REGISTRY.register()\nclass Mine(CoOp): ...\n"
    )
    arguments = command(toy, "CoOp", tmp_path / "run", "--plugin", str(tmp_path / "mine.py"))
    arguments[arguments.index("--trainer") + 1] = "Mine"
    assert train.main(arguments) == 0
    plugin = ("--plugin", tmp_path / "mine.py")
    assert answers(capsys, "--model-dir", tmp_path / "run", *plugin, picture)["trainer"] == "Mine"


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["--debug", "--model-dir", str(tmp_path), "x.png"])


def test_help_does_not_wait_for_torch():
    program = (
        "import sys; from tools.predict.__main__ import parse_args, check_args\n"
        "check_args(parse_args(['--model-dir', 'x', 'y'])); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
