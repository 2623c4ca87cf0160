"""Small operations that plugins share."""

import pytest
import torch
from torch import nn

from dassl.modeling.ops import utils as ops


def test_ops():
    p = torch.tensor([[0.2, 0.8]])
    assert torch.allclose(ops.sharpen_prob(p, 2.0), torch.tensor([[0.04, 0.64]]) / 0.68)
    assert ops.create_onehot(torch.tensor([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_ema_model_update():
    model, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    nn.init.constant_(average.weight, 0.0)
    ops.ema_model_update(model, average, alpha=0.9)
    assert average.weight.item() == pytest.approx(0.1)
    assert model.weight.item() == 1.0
