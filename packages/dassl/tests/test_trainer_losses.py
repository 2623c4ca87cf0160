"""A loss that is no number stops a run."""

from pathlib import Path

import pytest
import torch

from dassl.engine import build_trainer


def test_a_loss_that_is_no_number_stops_the_run(make_cfg):
    trainer = build_trainer(make_cfg())
    with torch.no_grad():
        trainer.model.linear.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"epoch 1.*OPTIM\.LR"):
        trainer.train()
    assert not (Path(trainer.output_dir) / "learner").exists()


def test_a_reported_loss_that_is_no_number_stops_the_run(make_cfg):
    trainer = build_trainer(make_cfg("TRAIN.PRINT_FREQ", 3))  # the bad one is between two lines
    trainer.forward_backward = lambda batch: {
        "loss_kl": float("inf") if trainer.batch_idx == 3 else 1.0
    }
    with pytest.raises(FloatingPointError, match="'loss_kl'"):
        trainer.train()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_prograds_step(make_cfg, sign):
    """Against b the part of a along b is left out, `lambda_` times; with b it is not."""
    trainer = build_trainer(make_cfg())
    weight = trainer.model.linear.weight
    start = weight.detach().clone()
    a, b = torch.randn_like(start), torch.randn_like(start)
    b = b if (a * b).sum() * sign > 0 else -b
    trainer.prograd_backward_and_update((weight * a).sum(), (weight * b).sum(), 0.5)
    along = (a * b).sum() / b.square().sum() * b
    expected = a if sign > 0 else a - 0.5 * along
    assert torch.allclose(weight.grad, expected, atol=1e-6)
    assert not torch.equal(weight, start)


class OnGPU(torch.Tensor):
    @property
    def device(self):
        return torch.device("cuda")


def test_a_loss_on_a_gpu_is_checked_when_it_is_read(make_cfg):
    trainer = build_trainer(make_cfg())
    for trainer.batch_idx, value in enumerate((1.0, float("nan"), 2.0)):
        trainer.detect_anomaly(torch.tensor(value).as_subclass(OnGPU))
    check = trainer._finite_check
    with pytest.raises(FloatingPointError):
        check.check_losses(trainer)
    check.check_losses(trainer)  # said once


@pytest.mark.gpu
def test_training_on_a_gpu(make_cfg):
    trainer = build_trainer(
        make_cfg("USE_CUDA", True, "OPTIM.MAX_EPOCH", 2, "DATALOADER.NUM_WORKERS", 2)
    )
    trainer.train()
    assert next(trainer.model.parameters()).device.type == "cuda"
    with torch.no_grad():
        trainer.model.linear.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError):
        trainer.run_epoch()
