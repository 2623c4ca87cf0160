"""`python -m tools.predict --export`: the image side outside of this repository."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import train
from dassl.utils import read_image
from frozen_clip import described
from tests.helpers.predict_runs import refused
from tests.helpers.toy_run import CLASSES, command
from tools.predict import export as exporting
from tools.predict import load
from tools.predict.__main__ import main


@pytest.fixture
def pictures(toy):
    return sorted((toy / "colored_shapes" / "images").glob("*/test_*.png"))[:7]


def exported(capsys, folder, target, *flags) -> dict:
    assert main(["--model-dir", str(folder), "--export", str(target), *flags]) == 0
    shown = capsys.readouterr().out
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    line = f"random images: {manifest['largest_difference']:.2e}"
    assert line in shown and manifest["largest_difference"] < 1e-3
    return manifest


def example(target) -> str:
    """The program in the README of an export."""
    text = (target / "README.md").read_text(encoding="utf-8")
    return text.split("```python\n")[1].split("```")[0]


def compare(target, classifier, pictures) -> None:
    """The program, far from this repository, answers what the method does."""
    (target / "use.py").write_text(example(target))
    done = subprocess.run(
        [sys.executable, target / "use.py", *pictures],
        cwd=target,
        env={"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    for line, picture, (best,) in zip(lines, pictures, classifier(pictures, 1), strict=True):
        assert line[:2] == [str(picture), best.name]
        assert float(line[2]) == pytest.approx(best.probability, abs=1e-3)


@pytest.mark.slow
def test_onnx_and_its_readme(runs, tmp_path, pictures, capsys):
    folder, target = runs("MMRL"), tmp_path / "some" / "export"
    manifest = exported(capsys, folder, target)
    assert {file.name for file in target.iterdir()} == {
        *("image_side.onnx", "class_features.npy", "manifest.json", "README.md")
    }
    classifier = load(folder)
    assert torch.equal(
        torch.from_numpy(np.load(target / "class_features.npy")), classifier.text_features
    )
    assert manifest["classes"] == list(CLASSES[:3]) and manifest["seen_classes"]
    assert manifest["answer"]["alpha"] == 0.7 and manifest["answer"]["scale"] == 100
    assert str(exporting.__file__).encode() not in (target / "image_side.onnx").read_bytes()
    run = exporting.onnx_runner(target / "image_side.onnx")
    images = torch.stack([classifier.transform(read_image(p)) for p in pictures])
    for count, classes in ((1, 3), (7, 1)):
        found = run(images[:count], classifier.text_features[:classes])
        expected = classifier.logits(images[:count])[:, :classes]
        assert torch.allclose(found, expected, atol=1e-3)
    compare(target, classifier, pictures)
    unknown = tmp_path / "mine"
    unknown.mkdir()
    (unknown / "thesis.txt").touch()
    assert "holds other things" in refused(capsys, "--model-dir", folder, "--export", unknown)
    assert (unknown / "thesis.txt").exists()


def test_what_cannot_be_split(runs, tmp_path, capsys):
    target = tmp_path / "export"
    message = refused(capsys, "--model-dir", runs("CoCoOp"), "--export", target)
    assert "CoCoOp cannot be exported: its class features depend on the image" in message
    assert not target.exists()


def test_a_wrong_graph_is_found_and_nothing_written(runs, tmp_path, monkeypatch):
    def wrong(side, classifier, folder):
        return exporting.Exported("x", lambda *given: side(*given) + 1)

    monkeypatch.setattr(exporting, "write_graph", wrong)
    with pytest.raises(RuntimeError, match="its logits differ by up to"):
        main(["--model-dir", str(runs("MMRL")), "--export", str(tmp_path / "export")])
    assert not any(tmp_path.iterdir())


def test_flags_that_do_not_go_together(tmp_path, capsys):
    flags = ("--model-dir", tmp_path, "--export", tmp_path / "e", "--device", "cuda")
    assert "always made on the CPU" in refused(capsys, *flags)


def test_what_is_needed_is_said(monkeypatch):
    assert exporting.why_no_onnx() == ""
    monkeypatch.setattr(exporting.torch, "__version__", "2.5.1+cpu")
    assert exporting.why_no_onnx() == "torch is 2.5.1+cpu, needed is 2.6"
    monkeypatch.setattr(exporting, "NEEDED", ("onnx", "no_such_package"))
    assert exporting.why_no_onnx().startswith("no_such_package not installed (pip install onnx")


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["MMRLPlus", "MaPLe", "VPT", "CoOp"])
def test_methods_of_other_image_sides(trainer, runs, tmp_path, capsys):
    manifest = exported(capsys, runs(trainer), tmp_path / "export")
    assert manifest["graph"] == "image_side.onnx"


@pytest.mark.slow
def test_classes_that_were_not_trained_on(runs, tmp_path, capsys):
    names = ",".join(CLASSES[3:])
    manifest = exported(capsys, runs("MMRL"), tmp_path / "e", "--classes", names)
    assert not manifest["seen_classes"] and "alpha" not in manifest["answer"]


@pytest.mark.slow
def test_without_onnx(runs, tmp_path, pictures, monkeypatch, capsys):
    target = tmp_path / "export"
    monkeypatch.setattr(exporting, "NEEDED", ("no_such_package",))
    manifest = exported(capsys, runs("MMRL"), target)
    assert manifest["graph"] == "image_side.pt2"
    compare(target, load(runs("MMRL")), pictures)
    monkeypatch.undo()
    monkeypatch.setattr(exporting, "onnx_runner", lambda file: None)  # no onnxruntime
    assert exported(capsys, runs("MMRL"), target)["graph"] == "image_side.onnx"
    assert not (target / "image_side.pt2").exists()


@pytest.mark.slow
def test_a_resnet(toy, tmp_path, capsys):
    from clip.model import CLIP

    torch.manual_seed(0)
    sizes = {"vision_layers": (1, 1, 1, 1), "vision_width": 8, "vision_patch_size": None}
    text = {"vocab_size": 49408, "transformer_width": 64, "transformer_heads": 1}
    clip = CLIP(32, 32, **sizes, context_length=77, **text, transformer_layers=2)
    torch.save(described(clip), toy / "resnet.pt")
    arguments = command(toy, "CoOp", tmp_path / "run", clip="resnet")
    assert train.main(arguments) == 0
    exported(capsys, tmp_path / "run", tmp_path / "export")
