"""DEVICE: which there are, what is refused, and a run on one that is only made believe."""

import json
import re

import pytest
import torch

import train
from dassl.utils import devices
from tests.helpers.stand_in import accelerator
from tests.helpers.toy_run import command, refused
from tests.run.test_one_run import assert_same_run
from tools.predict import load
from training import precision


@pytest.mark.parametrize("newer", [True, False])
@pytest.mark.parametrize("kind", ["xpu", "mps"])
def test_auto_is_the_accelerator_that_is_there(kind, newer, monkeypatch):
    with accelerator(monkeypatch, kind, newer):
        assert devices.pick_device("auto").type == kind
        assert devices.pick_device(f"{kind}:1") == torch.device(kind, 1)
        assert devices.pick_device("cpu").type == "cpu"
        assert devices.pick_device("auto", use_cuda=False).type == "cpu"
        with pytest.raises(ValueError, match=f"this machine has cpu, {kind}, {kind}:0, {kind}:1"):
            devices.pick_device("cuda")


def test_cuda_comes_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.devices() == ["cpu", "cuda", "cuda:0", "cuda:1"]
    assert str(devices.pick_device("auto")) == "cuda"
    assert str(devices.pick_device("cuda:1")) == "cuda:1"
    with pytest.raises(ValueError, match="USE_CUDA is False: leave out"):
        devices.pick_device("cuda", use_cuda=False)


def test_several_processes_share_no_accelerator(monkeypatch):
    monkeypatch.setattr(devices, "world_size", lambda: 2)
    with accelerator(monkeypatch, "xpu"):
        assert devices.pick_device("auto").type == "cpu"
        with pytest.raises(ValueError, match=r"of several processes .* set it to auto"):
            devices.pick_device("xpu")


@pytest.mark.parametrize(
    ("kind", "means"),
    [
        ("cpu", "a CPU means bfloat16 autocast"),
        ("xpu", "xpu means bfloat16 autocast"),
        ("cuda", "cuda means float16 autocast and a scaled loss"),
    ],
)
def test_what_amp_means(kind, means, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *args: None)
    assert precision.describe(torch.device(kind)) == f"PREC amp on {means}"


def test_autocast_that_there_is_none_of_is_refused(monkeypatch):
    def autocast(*args):
        raise RuntimeError("unsupported")

    monkeypatch.setattr(torch, "autocast", autocast)
    with pytest.raises(ValueError, match=r"no bfloat16 autocast on mps; take PREC fp32"):
        precision.describe(torch.device("mps"))


@pytest.mark.parametrize("prec", ["fp32", "amp"])
def test_a_run_on_an_accelerator(prec, toy, tmp_path, picture, capsys, monkeypatch):
    """Trained, tested, evaluated and used for prediction there: what is a CPU's elsewhere."""
    opts = ("TRAINER.MMRL.PREC", prec, "DEVICE", "cpu")
    assert train.main(command(toy, "MMRL", tmp_path / "cpu", opts=opts)) == 0
    expected = load(tmp_path / "cpu", device="cpu").logits(picture)
    opts = (*opts[:3], "xpu")
    with accelerator(monkeypatch, "xpu") as stand_in:
        autocast = torch.autocast  # the sums of a CPU under a CPU's autocast
        monkeypatch.setattr(
            torch, "autocast", lambda kind, *args, **how: autocast("cpu", *args, **how)
        )
        capsys.readouterr()
        assert train.main(command(toy, "MMRL", tmp_path / "xpu", opts=opts)) == 0
        told = capsys.readouterr().out
        assert told.count("PREC amp on xpu means bfloat16 autocast") == (prec == "amp")
        assert stand_in.asked >= {"to"}
        evaluation = ("--eval-only", "--model-dir", str(tmp_path / "xpu"))
        assert train.main(command(toy, "MMRL", tmp_path / "eval", *evaluation, opts=opts)) == 0
        for device in (None, "xpu", "xpu:1"):
            classifier = load(tmp_path / "xpu", device=device, cache=False)
            assert classifier.device.type == "xpu"
            assert torch.allclose(classifier.logits(picture), expected, atol=1e-4)
    assert_same_run(tmp_path / "xpu", tmp_path / "cpu")
    record = json.loads((tmp_path / "eval/results.json").read_text())
    assert record["device"] == "stand-in of xpu"
    assert (record["peak_memory_bytes"], record["peak_memory_kind"]) == (123, "XPU allocator")
    assert record["accuracy"] == json.loads((tmp_path / "cpu/results.json").read_text())["accuracy"]


def test_a_run_may_go_on_under_another_name_of_a_device(toy, tmp_path):
    for device in ("auto", "cpu"):
        assert train.main(command(toy, "MMRL", tmp_path / "run", opts=("DEVICE", device))) == 0


@pytest.mark.parametrize(
    ("opts", "says"),
    [
        (("DEVICE", "xpu"), "this machine has cpu"),
        (("DEVICE", "gpu"), "allowed is one of auto, cpu, cuda"),
        (("DEVICE", "cpu", "TRAINER.MMRL.PREC", "fp16"), "needs a CUDA device"),
    ],
)
def test_wrong_devices(opts, says, toy, tmp_path, capsys):
    assert re.search(says, refused(capsys, command(toy, "MMRL", tmp_path / "out", opts=opts)))
