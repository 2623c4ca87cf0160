"""`python -m tools.predict` answers what the test of a run did; the example in docs/predict.md."""

import shlex
import shutil

import pytest
import torch
from PIL import Image

import train
from dassl.engine import TRAINER_REGISTRY
from tests.helpers.predict_runs import answers, compare, listed, refused
from tests.helpers.toy_run import CLASSES, REPO, SAVE, command, trainer_names
from tools.predict import load
from tools.predict.__main__ import check_args, main, parse_args


@pytest.mark.parametrize("trainer", trainer_names())
def test_equals_the_test_of_a_run(trainer, runs, toy, tmp_path, capsys):
    folder = runs(trainer)
    shutil.rmtree(folder / "text_features", ignore_errors=True)
    for _ in range(2):  # without text features that were kept, and with them
        found = answers(capsys, "--model-dir", folder, "--topk", 1, *listed(folder, toy))
        compare(folder, toy, found["predictions"])
    assert found["classes"] == list(CLASSES[:3])
    assert (folder / "text_features").is_dir() == (trainer != "CoCoOp")
    new = tmp_path / "new"
    opts = (*SAVE, "DATASET.SUBSAMPLE_CLASSES", "new")
    flags = ("--eval-only", "--model-dir", str(folder))
    if TRAINER_REGISTRY.get(trainer).learns_classes:
        others = ("--classes", ",".join(CLASSES[3:]))
        wrong = refused(capsys, "--model-dir", folder, *others, *listed(folder, toy))
        assert "has nothing to say of others" in wrong
        some = ("--classes", f"{CLASSES[1]},{CLASSES[0]}")
        assert answers(capsys, "--model-dir", folder, *some, *listed(folder, toy))["seen_classes"]
        return
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


def test_the_docs(runs, toy, tmp_path, monkeypatch, capsys):
    """Its lines of Python and its commands, in a folder with the files that they name."""
    section = (REPO / "docs/predict.md").read_text()
    shutil.copytree(runs("MMRL"), tmp_path / "output" / "my_images")
    source = toy / "colored_shapes" / "images" / "red_square" / "test_1.png"
    for name in ("photo.jpg", "holiday/forest.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(source).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    code = section.split("```python\n")[1].split("```")[0]
    assert len(code.split("\n")) == 5 and code.count("\n\n") == 1  # three lines
    names: dict = {}
    exec(code, names)
    result = names[code.strip().splitlines()[-1].partition(" = ")[0]]
    assert [len(predictions) for predictions in result] == [3, 3]
    commands = [line for line in section.splitlines() if line.startswith("python -m")]
    assert len(commands) == 3
    table, listed, export = (shlex.split(command)[3:] for command in commands)
    capsys.readouterr()
    assert main(table) == 0
    shown = capsys.readouterr().out
    rows = [line.split()[0] for line in shown.splitlines()[2:]]
    assert rows == ["photo.jpg", "holiday/forest.jpg"]
    found = answers(capsys, *listed)
    assert found["classes"] == ["oak", "birch", "red maple"]
    check_args(parse_args(export))
