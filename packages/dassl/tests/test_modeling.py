"""The plain models, and the small operations."""

import math

import pytest
import torch
from torch import nn

from dassl.engine import SimpleNet, SimpleTrainer, TrainerX
from dassl.modeling import (
    BACKBONE_REGISTRY,
    NETWORK_REGISTRY,
    build_backbone,
    build_head,
    build_network,
)
from dassl.modeling.ops import utils as ops
from dassl.utils import save_checkpoint


def test_torchvision_resnets():
    for name, width in (("resnet18", 512), ("resnet50", 2048)):
        backbone = build_backbone(name, verbose=False, pretrained=False)
        assert backbone.out_features == width
    names = {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"}
    assert names <= set(BACKBONE_REGISTRY.registered_names())
    small = build_backbone("resnet18", pretrained=False).eval()
    assert small(torch.zeros(1, 3, 32, 32)).shape == (1, 512)
    with pytest.raises(ValueError, match="do you mean 'resnet50'"):
        build_backbone("resnet5")


def test_mlp_head():
    head = build_head("mlp", in_features=4, hidden_layers=[8, 2], bn=True, dropout=0.1)
    assert head.out_features == 2 and head(torch.zeros(3, 4)).shape == (3, 2)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert [type(layer) for layer in head.layers] == kinds * 2
    with pytest.raises(ValueError, match="HIDDEN_LAYERS"):
        build_head("mlp", in_features=4)
    with pytest.raises(ValueError, match="do you mean 'relu'"):
        build_head("mlp", in_features=4, hidden_layers=[2], activation="relu6")


def test_networks_can_be_registered():
    @NETWORK_REGISTRY.register()
    def tiny_network(width):
        return nn.Linear(width, width)

    assert build_network("tiny_network", width=3).in_features == 3


def with_model(cfg, head=False):
    cfg.MODEL.BACKBONE.NAME = "MeanColour"
    if head:
        cfg.MODEL.HEAD.NAME = "mlp"
        cfg.MODEL.HEAD.HIDDEN_LAYERS = (7,)
    return cfg


def test_simple_net(make_cfg):
    cfg = with_model(make_cfg(), head=True)
    net = SimpleNet(cfg, cfg.MODEL, 5)
    images = torch.rand(2, 3, 8, 8)
    logits, features = net(images, return_feature=True)
    assert (
        net.fdim == 7 and features.shape == (2, 7) and logits.shape == net(images).shape == (2, 5)
    )
    bare = SimpleNet(with_model(make_cfg()), with_model(make_cfg()).MODEL, 0)
    assert bare(images).shape == (2, 3)


def test_simple_trainer_trains_its_net(make_cfg, tmp_path, capsys):
    class Plain(TrainerX):
        def forward_backward(self, batch):
            image, label, _domain = self.parse_batch_train(batch)
            loss = nn.functional.cross_entropy(self.model(image), label)
            self.model_backward_and_update(loss)
            return {"loss": loss}

    cfg = with_model(make_cfg())
    trainer = Plain(cfg)
    before = trainer.model.backbone.scale.detach().clone()
    trainer.train()
    assert not torch.equal(trainer.model.backbone.scale, before)
    assert "# params: 15" in capsys.readouterr().out

    save_checkpoint({"state_dict": trainer.model.state_dict(), "epoch": 1}, tmp_path / "init")
    cfg = with_model(make_cfg("MODEL.INIT_WEIGHTS", str(tmp_path / "init" / "model.pth.tar-1")))
    fresh = SimpleTrainer(cfg)
    assert torch.equal(fresh.model.backbone.scale, trainer.model.backbone.scale)


def test_ops():
    p = torch.tensor([[0.2, 0.8]])
    assert torch.allclose(ops.sharpen_prob(p, 2.0), torch.tensor([[0.04, 0.64]]) / 0.68)
    assert ops.create_onehot(torch.tensor([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    data, label = torch.arange(4.0), torch.arange(4)
    assert [x.tolist() for x in ops.reverse_index(data, label)] == [[3, 2, 1, 0]] * 2
    shuffled = ops.shuffle_index(data, label)
    assert shuffled[0].tolist() == shuffled[1].tolist() and sorted(shuffled[1]) == [0, 1, 2, 3]
    assert [ops.linear_rampup(n, 4) for n in (0, 1, 8)] == [0, 0.25, 1]
    assert [ops.sigmoid_rampup(n, 4) for n in (0, 4)] == [math.exp(-5), 1]
    assert ops.linear_rampup(1, 0) == ops.sigmoid_rampup(1, 0) == 1


def test_ema_model_update():
    model, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    nn.init.constant_(average.weight, 0.0)
    ops.ema_model_update(model, average, alpha=0.9)
    assert average.weight.item() == pytest.approx(0.1)
    assert model.weight.item() == 1.0
