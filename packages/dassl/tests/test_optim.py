"""Optimisers and learning rates."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler
from dassl.optim.radam import AdamW, PlainRAdam, RAdam

GOLDEN = json.loads((Path(__file__).parent / "golden" / "lr_schedules.json").read_text())
KEYS = {
    "lr": "LR",
    "max_epoch": "MAX_EPOCH",
    "warmup_epoch": "WARMUP_EPOCH",
    "warmup_type": "WARMUP_TYPE",
    "cons_lr": "WARMUP_CONS_LR",
    "min_lr": "WARMUP_MIN_LR",
    "scheduler": "LR_SCHEDULER",
    "warmup_recount": "WARMUP_RECOUNT",
    "stepsize": "STEPSIZE",
    "gamma": "GAMMA",
}


@pytest.mark.parametrize("name", ["constant", "linear"])
def test_warmups_as_plugins_build_them(name):
    """Around a schedule of PyTorch they give the rates that `build_lr_scheduler` gives."""
    cfg = optim_cfg(WARMUP_EPOCH=2, WARMUP_TYPE=name, LR_SCHEDULER="cosine", MAX_EPOCH=6, LR=0.1)
    first = {"constant": cfg.WARMUP_CONS_LR, "linear": cfg.WARMUP_MIN_LR}[cfg.WARMUP_TYPE]
    kind = {"constant": ConstantWarmupScheduler, "linear": LinearWarmupScheduler}[cfg.WARMUP_TYPE]

    def build():
        optimizer = build_optimizer([one_weight()], cfg)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, float(cfg.MAX_EPOCH))
        return optimizer, kind(optimizer, cosine, cfg.WARMUP_EPOCH, first)

    ours = build_optimizer([one_weight()], cfg)
    expected, (theirs, warmup) = build_lr_scheduler(ours, cfg), build()
    for epoch in range(cfg.MAX_EPOCH):
        assert theirs.param_groups[0]["lr"] == pytest.approx(ours.param_groups[0]["lr"], rel=1e-9)
        if epoch == cfg.WARMUP_EPOCH + 1:  # another process goes on
            state, before = warmup.state_dict(), theirs.state_dict()
            assert pickle.loads(pickle.dumps(state)) == state
            theirs, warmup = build()
            theirs.load_state_dict(before)
            warmup.load_state_dict(state)
        theirs.step()
        expected.step()
        warmup.step()


@pytest.mark.parametrize(("kind", "extra"), [(RAdam, {}), (PlainRAdam, {}), (AdamW, {"warmup": 3})])
def test_optimisers_under_their_old_path(kind, extra):
    weight = one_weight()
    if extra:
        with pytest.raises(ValueError, match="warmup=3"):
            kind([weight], **extra)
    else:
        with pytest.raises(ValueError, match="degenerated_to_sgd False"):
            kind([weight], degenerated_to_sgd=False)
    optimizer = kind([weight], lr=0.1, weight_decay=0.5)
    weight.sum().backward()
    optimizer.step()
    assert weight.item() == pytest.approx(0.95 - 0.1)  # decay apart from the gradient


def optim_cfg(**values):
    cfg = get_cfg_default().OPTIM
    for key, value in values.items():
        cfg[key] = tuple(value) if isinstance(value, list) else value
    return cfg


def golden_cfg(name):
    return optim_cfg(**{KEYS[key]: value for key, value in GOLDEN[name]["config"].items()})


def one_weight():
    return nn.Parameter(torch.ones(1))


@pytest.mark.parametrize("name", GOLDEN)
def test_rates_equal_the_golden_ones(name):
    cfg = golden_cfg(name)
    optimizer = build_optimizer([one_weight()], cfg)
    schedule = build_lr_scheduler(optimizer, cfg)
    rates = []
    for _ in range(cfg.MAX_EPOCH):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert rates == GOLDEN[name]["lr_per_epoch"]
    assert optimizer.param_groups[0]["lr"] == GOLDEN[name]["lr_after_last"]
    assert schedule.get_last_lr() == [GOLDEN[name]["lr_after_last"]]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_loaded_schedule_goes_on_and_drives_its_own_optimiser(name):
    cfg = golden_cfg(name)
    old = build_lr_scheduler(build_optimizer([one_weight()], cfg), cfg)
    stop = cfg.MAX_EPOCH // 2
    for _ in range(stop):
        old.step()
    state = json.loads(json.dumps(old.state_dict()))  # plain data

    optimizer = build_optimizer([one_weight()], cfg)
    new = build_lr_scheduler(optimizer, cfg)
    new.load_state_dict(state)
    expected = [*GOLDEN[name]["lr_per_epoch"], GOLDEN[name]["lr_after_last"]]
    for rate in expected[stop:]:
        assert optimizer.param_groups[0]["lr"] == rate
        new.step()
    assert old.last_epoch == stop


def test_groups_keep_their_proportions():
    cfg = optim_cfg(NAME="sgd", LR=1.0, LR_SCHEDULER="cosine", MAX_EPOCH=2)
    optimizer = build_optimizer(
        [{"params": [one_weight()], "lr": 0.1}, {"params": one_weight()}], cfg
    )
    schedule = build_lr_scheduler(optimizer, cfg)
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.5])
    with pytest.raises(ValueError, match="1 parameter groups"):
        schedule.load_state_dict({"last_epoch": 0, "base_lrs": [1.0]})


def test_single_step_without_a_size_never_steps():
    cfg = optim_cfg(LR_SCHEDULER="single_step", MAX_EPOCH=5)
    schedule = build_lr_scheduler(build_optimizer([one_weight()], cfg), cfg)
    schedule.step(4)
    assert schedule.get_last_lr() == [cfg.LR]


def test_after_the_end_a_cosine_stays_at_zero():
    cfg = optim_cfg(LR_SCHEDULER="cosine", MAX_EPOCH=2)
    schedule = build_lr_scheduler(build_optimizer([one_weight()], cfg), cfg)
    schedule.step(5)
    assert schedule.get_last_lr() == [0.0]


def test_cosine_per_step_equals_that_of_torch():
    """For two groups, over all steps; one that is loaded goes on; after the end it stays low."""
    cfg = optim_cfg(NAME="sgd", LR=0.2, LR_MIN=1e-3, LR_SCHEDULER="cosine_per_step")

    def build():
        groups = [{"params": [one_weight()], "lr": 0.1}, {"params": one_weight()}]
        optimizer = build_optimizer(groups, cfg)
        return optimizer, build_lr_scheduler(optimizer, cfg, steps=7)

    theirs = build()[0]
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=7, eta_min=1e-3)
    ours, schedule = build()
    for step in range(8):
        expected = [group["lr"] for group in theirs.param_groups]
        assert [group["lr"] for group in ours.param_groups] == pytest.approx(expected, rel=1e-12)
        assert schedule.get_last_lr() == [group["lr"] for group in ours.param_groups]
        if step == 3:  # another process goes on
            state = json.loads(json.dumps(schedule.state_dict()))
            ours, schedule = build()
            schedule.load_state_dict(state)
        theirs.step()
        cosine.step()
        schedule.step()
    assert schedule.get_last_lr() == [1e-3, 1e-3]


def test_cosine_per_step_needs_steps_and_no_warm_up():
    cfg = optim_cfg(LR_SCHEDULER="cosine_per_step", WARMUP_EPOCH=0)
    optimizer = build_optimizer([one_weight()], cfg)
    with pytest.raises(ValueError, match="moves its rate once an epoch: set it to cosine"):
        build_lr_scheduler(optimizer, cfg)
    cfg.WARMUP_EPOCH = 1
    with pytest.raises(ValueError, match=r"has no warm-up, but OPTIM.WARMUP_EPOCH is 1: set it"):
        build_lr_scheduler(optimizer, cfg, steps=3)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("LR_SCHEDULER", "cosin", "do you mean 'cosine'"),
        ("WARMUP_TYPE", "lineal", "do you mean 'linear'"),
        ("STEPSIZE", (0.5,), "whole numbers"),
    ],
)
def test_schedules_that_cannot_be(key, value, message):
    cfg = optim_cfg(WARMUP_EPOCH=1)
    optimizer = build_optimizer([one_weight()], cfg)
    cfg[key] = value
    with pytest.raises(ValueError, match=message):
        build_lr_scheduler(optimizer, cfg)


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.9, 0.999), "weight_decay": 5e-4}),
        ("amsgrad", torch.optim.Adam, {"amsgrad": True, "lr": 0.0003}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": False, "dampening": 0}),
        ("rmsprop", torch.optim.RMSprop, {"alpha": 0.99, "momentum": 0.9}),
        ("radam", torch.optim.RAdam, {"betas": (0.9, 0.999), "lr": 0.0003}),
        ("adamw", torch.optim.AdamW, {"weight_decay": 5e-4, "betas": (0.9, 0.999)}),
    ],
)
def test_optimisers_take_their_settings(name, kind, settings):
    optimizer = build_optimizer(nn.Linear(2, 2), optim_cfg(NAME=name))
    assert type(optimizer) is kind
    assert settings.items() <= optimizer.param_groups[0].items()


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamw"])
def test_eps_is_what_the_config_says(name):
    """A gradient as small as it moves the weight by half the rate, not by all of it."""
    weight, cfg = one_weight(), optim_cfg(NAME=name, LR=0.1, WEIGHT_DECAY=0.0, ADAM_EPS=1e-3)
    (1e-3 * weight).sum().backward()
    build_optimizer([weight], cfg).step()
    assert weight.item() == pytest.approx(1 - 0.05)
    del cfg["ADAM_EPS"]  # a plugin's own node
    assert build_optimizer([weight], cfg).defaults["eps"] == 1e-8


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, optim_cfg())
    assert [p.shape for p in optimizer.param_groups[0]["params"]] == [(3, 2), (3,)]
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="Nothing to optimize"):
        build_optimizer(model, optim_cfg())


def test_staged_rates():
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "classifier": nn.Linear(2, 2, bias=False)})
    cfg = optim_cfg(STAGED_LR=True, NEW_LAYERS=["classifier"], LR=1.0)
    slow, fast = build_optimizer(model, cfg).param_groups
    assert (slow["lr"], len(slow["params"])) == (0.1, 2)
    assert (fast["lr"], fast["params"]) == (1.0, [model["classifier"].weight])
    cfg.NEW_LAYERS = ("clasifier",)
    with pytest.raises(ValueError, match="do you mean 'classifier'"):
        build_optimizer(model, cfg)
    with pytest.raises(ValueError, match="the module itself"):
        build_optimizer(model.parameters(), cfg)


def test_given_groups_are_used():
    model = nn.Linear(2, 2)
    groups = [{"params": [model.bias], "lr": 0.5}]
    optimizer = build_optimizer(model, optim_cfg(), param_groups=groups)
    assert len(optimizer.param_groups) == 1 and optimizer.param_groups[0]["lr"] == 0.5


def test_unknown_optimiser():
    with pytest.raises(ValueError, match=r"OPTIM\.NAME.*do you mean 'adamw'"):
        build_optimizer(nn.Linear(1, 1), optim_cfg(NAME="AdamW2"))
