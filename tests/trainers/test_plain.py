"""Every method that takes steps against itself on a CLIP that shares and keeps nothing."""

from dataclasses import replace

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, reference
from run.config import default_config, merge_file
from tests.helpers.toy_run import CLASSES, variant
from tools.benchmark.worker import with_steps
from training.feature_fit import Features

MODEL = reference.random_clip(embed=96, layers=(4, 3))


def numbers(clip, name: str, seed: int):
    """Logits, loss and gradients of a step from somewhere, and logits of an evaluation there."""
    cfg = default_config()
    cfg.DATASET.NAME = "ColoredShapes"
    merge_file(cfg, variant(name))
    trainer = TRAINER_REGISTRY.get(name)
    torch.manual_seed(seed)
    settings = trainer.settings_of(cfg)
    if hasattr(settings, "dropout_rate"):  # the two sides would draw other masks
        settings = replace(settings, dropout_rate=0.0)
    method = trainer.Method(settings, clip, CLASSES, "a photo of a {}.")
    if hasattr(method, "remember"):
        labels = torch.arange(len(CLASSES)).repeat(2)
        method.remember([Features(torch.randn(len(labels), clip.embed_dim), labels)])
    with torch.no_grad():
        for parameter in method.learner.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    images = torch.randn(*([trainer.views] if trainer.views > 1 else []), 3, 3, 32, 32)
    labels = torch.tensor([0, 4, 2])
    torch.manual_seed(seed)
    outputs = method(images)
    loss = method.backward(method.losses(outputs, labels), lambda value: value)
    gradients = {k: p.grad for k, p in method.learner.named_parameters() if p.grad is not None}
    method.eval()
    with torch.inference_mode():
        one_view = images[0] if trainer.views > 1 else images
        logits = method.classify(one_view, method.text_features(), seen=True)
    return {"training": method.training_logits(outputs), "loss": loss, "test": logits, **gradients}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", with_steps())
def test_loss_gradients_and_logits(name, seed):
    fast = numbers(FrozenCLIP(MODEL, "random"), name, seed)
    plain = numbers(reference.PlainCLIP(MODEL), name, seed)
    assert fast.keys() == plain.keys() and len(fast) > 3
    for key, value in fast.items():
        largest = plain[key].abs().max()
        assert largest > 0 and (value - plain[key]).abs().max() <= 2e-4 * largest, key
