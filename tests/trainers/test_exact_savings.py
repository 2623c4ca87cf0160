"""The savings change no result: MMRL and MMRL++ against the plain version, over random settings."""

import copy
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from frozen_clip import FrozenCLIP, reference
from trainers import mmrl, mmrl_plus

MODEL = reference.random_clip()
CLIP, PLAIN = FrozenCLIP(MODEL, "random"), reference.PlainCLIP(MODEL)
STEPS = 10
# How much further than the plain version the fast one may be from the exact result in float64.
FACTOR = 4


class Setting(NamedTuple):
    plus: bool
    layers: list[int]
    k: int
    words: list[int]  # of each class name
    template: str
    seed: int


SETTINGS = st.builds(
    Setting,
    plus=st.booleans(),
    layers=st.sets(st.integers(1, 4), min_size=1).map(sorted),
    k=st.integers(1, 8),
    words=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    template=st.sampled_from(["a photo of a {}.", "{} texture.", "{}"]),
    seed=st.integers(0, 99),
)


def build(s: Setting, clip=CLIP):
    """MMRL or MMRL++ on a random CLIP, its learner seeded."""
    names = [" ".join(["cat"] * count) for count in s.words]
    shape = {"n_rep_tokens": s.k, "rep_layers": tuple(s.layers), "rep_dim": 16}
    torch.manual_seed(s.seed)
    if s.plus:
        given = mmrl_plus.MMRLPlusSettings(
            **shape, alpha=0.6, reg_weight=2.0, beta=0.3, res_lora_dim=2, proj_lora_dim=3
        )
        return mmrl_plus.MMRLPlusMethod(given, clip, names, s.template)
    return mmrl.MMRLMethod(mmrl.MMRLSettings(**shape), clip, names, s.template)


def batch(method):
    return torch.randn(3, 3, 32, 32), torch.randint(len(method.prompts.ids_CL), (3,))


def total_loss(method, images, labels):
    return sum(method.losses(method(images), labels).values())


def loss_and_gradients(method, images, labels):
    loss = total_loss(method, images, labels)
    found = torch.autograd.grad(loss, list(method.learner.parameters()))
    return loss.detach(), torch.cat([gradient.flatten() for gradient in found])


def in_double(method):
    double = copy.deepcopy(method).double()
    for module in double.modules():
        if isinstance(module, nn.LayerNorm):
            module.__class__ = nn.LayerNorm  # CLIP's own computes in float32
    return double


def off(value, exact):
    """The largest difference, relative to the largest value."""
    return ((value - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_loss_and_gradients(precision, rounding):
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(SETTINGS)
    def check(setting):
        method, plain = build(setting), build(setting, PLAIN)
        images, labels = batch(method)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            fast = loss_and_gradients(method, images, labels)
            slow = loss_and_gradients(plain, images, labels)
        exact = loss_and_gradients(in_double(plain), images.double(), labels)
        for mine, theirs, true in zip(fast, slow, exact, strict=True):
            assert off(mine, true) < max(FACTOR * off(theirs, true), rounding)

    check()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SETTINGS)
def test_ten_steps_of_training(setting):
    method = build(setting)
    batches = [batch(method) for _ in range(STEPS)]
    losses, weights = [], []
    for one in (method, build(setting, PLAIN)):
        optimizer = torch.optim.SGD(one.learner.parameters(), lr=1e-3, momentum=0.9)
        losses.append([])
        for images, labels in batches:
            loss = total_loss(one, images, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
        weights.append(torch.cat([p.detach().flatten() for p in one.learner.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert off(*weights) < 1e-4
