"""Files of weights: whole or not there, read without running code, named when broken."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dassl.optim import EpochSchedule
from dassl.utils import (
    count_num_param,
    init_network_weights,
    load_checkpoint,
    load_pretrained_weights,
    open_all_layers,
    open_specified_layers,
    resume_from_checkpoint,
    save_checkpoint,
)


def state(epoch=1, fill=1.0):
    return {"state_dict": {"w": torch.full((2,), fill)}, "epoch": epoch, "val_result": 50.0}


def test_save_writes_the_file_and_names_it(tmp_path):
    save_checkpoint(state(3), tmp_path / "model")
    save_checkpoint(state(4), tmp_path / "model", is_best=True)
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == ["checkpoint", "model-best.pth.tar", "model.pth.tar-3", "model.pth.tar-4"]
    assert (tmp_path / "model" / "checkpoint").read_text().strip() == "model.pth.tar-4"
    assert load_checkpoint(tmp_path / "model" / "model-best.pth.tar")["epoch"] == 4


def test_data_parallel_names_lose_their_prefix(tmp_path):
    saved = {"state_dict": {"module.w": torch.ones(1)}, "epoch": 1}
    save_checkpoint(saved, tmp_path)
    assert list(load_checkpoint(tmp_path / "model.pth.tar-1")["state_dict"]) == ["w"]
    assert list(saved["state_dict"]) == ["module.w"]


def test_a_save_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    save_checkpoint(state(1, fill=1.0), tmp_path)

    def die(obj, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(state(1, fill=2.0), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(state(2, fill=2.0), tmp_path)
    monkeypatch.undo()
    assert float(load_checkpoint(tmp_path / "model.pth.tar-1")["state_dict"]["w"][0]) == 1.0
    model = nn.ParameterDict({"w": torch.zeros(2)})
    assert resume_from_checkpoint(tmp_path, model) == 1


class Evil:
    def __reduce__(self):
        return print, ("code from the file was run",)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_not_run(tmp_path, capsys, legacy):
    content = {"state_dict": {}, "epoch": 1, "extra": Evil()}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
    message = r"evil\.pth was not loaded.*it holds a builtins\.print\)"
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


def test_a_whole_model_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"it holds a torch\.nn\.modules\.linear\.Linear"):
        load_checkpoint(tmp_path / "model.pth")


@pytest.mark.parametrize("keep", [0, 3, 300, 900])
def test_a_damaged_file_is_named(tmp_path, keep):
    save_checkpoint(state(), tmp_path)
    path = tmp_path / "model.pth.tar-1"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.pth\.tar-1.*damaged"):
        load_checkpoint(path)


def test_no_path_and_no_file(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        load_checkpoint(None)
    with pytest.raises(FileNotFoundError, match="none"):
        load_checkpoint(tmp_path / "none")


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_of_dassl_0_6_load(tmp_path, legacy):
    """Their warm-up schedule's state holds another schedule, and that its optimiser."""
    model = nn.Linear(2, 2).to(torch.float16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10.0)
    model(torch.ones(1, 2, dtype=torch.float16)).sum().backward()
    optimizer.step()
    content = {
        "state_dict": model.state_dict(),
        "epoch": 5,
        "optimizer": optimizer.state_dict(),
        "scheduler": {"successor": successor, "base_lrs": [0.1], "last_epoch": 5},
        "val_result": np.float64(81.5),
    }
    path = tmp_path / "model.pth.tar-5"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert load_checkpoint(path)["val_result"] == 81.5
    fresh = nn.Linear(2, 2).to(torch.float16)
    fresh_optimizer = torch.optim.SGD(fresh.parameters(), lr=0.2, momentum=0.9)
    schedule = EpochSchedule(fresh_optimizer, lambda base, epoch: base / (1 + epoch))
    assert resume_from_checkpoint(tmp_path, fresh, fresh_optimizer, schedule) == 5
    assert torch.equal(fresh.weight, model.weight)
    momenta = fresh_optimizer.state_dict()["state"][0]["momentum_buffer"]
    assert torch.equal(momenta, optimizer.state_dict()["state"][0]["momentum_buffer"])
    assert fresh_optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 6)


def test_resume_takes_the_newest_without_the_pointer_too(tmp_path):
    for epoch in (9, 10):
        save_checkpoint(state(epoch, fill=float(epoch)), tmp_path)
    (tmp_path / "checkpoint").unlink()
    model = nn.ParameterDict({"w": torch.zeros(2)})
    assert resume_from_checkpoint(str(tmp_path), model) == 10
    assert model["w"].tolist() == [10.0, 10.0]
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        resume_from_checkpoint(tmp_path / "empty", model)


def test_load_pretrained_weights_takes_what_fits(tmp_path, capsys):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 5))
    save_checkpoint({"state_dict": other.state_dict(), "epoch": 1}, tmp_path)
    before = model[1].weight.clone()
    load_pretrained_weights(model, tmp_path / "model.pth.tar-1")
    assert torch.equal(model[0].weight, other[0].weight)
    assert torch.equal(model[1].weight, before)
    out = capsys.readouterr().out
    assert "Loaded 2 of 4 tensors" in out and "['1.weight', '1.bias']" in out
    with pytest.raises(ValueError, match="Nothing in"):
        load_pretrained_weights(nn.Conv2d(1, 1, 1), tmp_path / "model.pth.tar-1")


def test_open_layers():
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "top": nn.BatchNorm1d(2)})
    open_specified_layers(model, "top")
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert (model["body"].training, model["top"].training) == (False, True)
    with pytest.raises(ValueError, match="do you mean 'body'"):
        open_specified_layers(model, ["bodi"])
    open_all_layers(model)
    assert all(p.requires_grad for p in model.parameters()) and model["body"].training


def test_count_num_param():
    model = nn.Linear(3, 2)
    assert count_num_param(model) == 8
    assert count_num_param(params=model.parameters()) == 8
    assert count_num_param(params=[{"params": [model.bias]}]) == 2
    assert count_num_param(params=model.weight) == 6
    with pytest.raises(ValueError, match="needs a model"):
        count_num_param()


@pytest.mark.parametrize("init_type", ["normal", "xavier", "kaiming", "orthogonal"])
def test_init_network_weights(init_type):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(8, 8))
    before = [p.clone() for p in model.parameters()]
    init_network_weights(model, init_type)
    for name, old, new in zip(
        dict(model.named_parameters()), before, model.parameters(), strict=True
    ):
        if name.endswith("bias"):
            assert not new.any()
        else:
            assert not torch.equal(old, new)
    with pytest.raises(ValueError, match="do you mean 'xavier'"):
        init_network_weights(model, "xavierr")
