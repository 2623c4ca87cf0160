"""Optimizers by configuration."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from yacs.config import CfgNode

from dassl.utils import check_availability

from .radam import RAdam

__all__ = ["AVAI_OPTIMS", "RAdam", "build_optimizer", "nn", "torch"]

ParamGroups = list[dict[str, Any]]


def _adam(groups: ParamGroups, cfg: CfgNode, **extra: Any) -> Optimizer:
    return Adam(groups, **_moments(cfg), **_common(cfg), **extra)


def _amsgrad(groups: ParamGroups, cfg: CfgNode) -> Optimizer:
    return _adam(groups, cfg, amsgrad=True)


def _adamw(groups: ParamGroups, cfg: CfgNode) -> Optimizer:
    return AdamW(groups, **_moments(cfg), **_common(cfg))


def _radam(groups: ParamGroups, cfg: CfgNode) -> Optimizer:
    extra = {"decoupled_weight_decay": True, **_moments(cfg)}
    return torch.optim.RAdam(groups, **_common(cfg), **extra)


def _sgd(groups: ParamGroups, cfg: CfgNode) -> Optimizer:
    return SGD(
        groups,
        momentum=cfg.MOMENTUM,
        dampening=cfg.SGD_DAMPNING,
        nesterov=cfg.SGD_NESTEROV,
        **_common(cfg),
    )


def _rmsprop(groups: ParamGroups, cfg: CfgNode) -> Optimizer:
    return RMSprop(groups, momentum=cfg.MOMENTUM, alpha=cfg.RMSPROP_ALPHA, **_common(cfg))


def _moments(cfg: CfgNode) -> dict[str, Any]:
    eps = cfg.get("ADAM_EPS", 1e-8)  # a plugin's own node may be without
    return {"betas": (cfg.ADAM_BETA1, cfg.ADAM_BETA2), "eps": eps}


def _common(cfg: CfgNode) -> dict[str, Any]:
    return {"lr": cfg.LR, "weight_decay": cfg.WEIGHT_DECAY}


_OPTIMIZERS: dict[str, Callable[[ParamGroups, CfgNode], Optimizer]] = {
    "adam": _adam,
    "amsgrad": _amsgrad,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "radam": _radam,
    "adamw": _adamw,
}
AVAI_OPTIMS = list(_OPTIMIZERS)


def build_optimizer(
    model: nn.Module | Iterable[Any],
    optim_cfg: CfgNode,
    param_groups: Iterable[dict[str, Any]] | None = None,
) -> Optimizer:
    """Build the optimizer `optim_cfg.NAME` over what requires a gradient.

    Args:
        model: a module, or parameters, or parameter groups {'params': ..., 'lr': ...}.
        optim_cfg: the OPTIM node. With STAGED_LR, the children of `model` in NEW_LAYERS learn at
            LR, all others at LR * BASE_LR_MULT.
        param_groups: groups to use instead of what `model` and STAGED_LR say.

    Raises:
        ValueError: an unknown name, or nothing to train.
    """
    check_availability(optim_cfg.NAME, AVAI_OPTIMS, what="optimizer (OPTIM.NAME)")
    if param_groups is not None:
        groups = _as_groups(param_groups)
    elif optim_cfg.STAGED_LR:
        groups = _staged(model, optim_cfg)
    else:
        groups = _as_groups(model.parameters() if isinstance(model, nn.Module) else model)
    groups = [_trained(group) for group in groups]
    if not any(group["params"] for group in groups):
        raise ValueError(
            "Nothing to optimize: no parameter that was given requires a gradient. "
            "Was everything frozen, or the wrong module passed to build_optimizer?"
        )
    return _OPTIMIZERS[optim_cfg.NAME](groups, optim_cfg)


def _as_groups(params: Iterable[Any]) -> ParamGroups:
    items = list(params)
    return items if items and isinstance(items[0], dict) else [{"params": items}]


def _trained(group: dict[str, Any]) -> dict[str, Any]:
    """Leave out frozen parameters: an optimizer would only carry them into checkpoints."""
    params = group["params"]
    params = [params] if isinstance(params, Tensor) else params
    return {**group, "params": [param for param in params if param.requires_grad]}


def _staged(model: Any, optim_cfg: CfgNode) -> ParamGroups:
    """Split the children of `model` into a slow group and a group of new layers."""
    if not isinstance(model, nn.Module):
        raise ValueError("OPTIM.STAGED_LR needs the module itself, not its parameters")
    children = dict(model.named_children())
    names = optim_cfg.NEW_LAYERS
    new_layers = [names] if isinstance(names, str) else list(names)
    for name in new_layers:
        check_availability(name, list(children), what="layer in OPTIM.NEW_LAYERS")
    new = {id(param) for name in new_layers for param in children[name].parameters()}
    params = list(model.parameters())
    return [
        {
            "params": [param for param in params if id(param) not in new],
            "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT,
        },
        {"params": [param for param in params if id(param) in new]},
    ]
