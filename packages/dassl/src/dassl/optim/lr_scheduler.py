"""Learning rates by epoch, or by step.

A rate is a function of the base rate and the epoch (or step) alone, so that a schedule's state is
two plain values and can be put back at any time, onto any optimizer.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from yacs.config import CfgNode

from dassl.utils import check_availability

from .warmup import ConstantWarmupScheduler, LinearWarmupScheduler

__all__ = [
    "AVAI_SCHEDS",
    "AVAI_WARMUPS",
    "ConstantWarmupScheduler",
    "EpochSchedule",
    "LinearWarmupScheduler",
    "build_lr_scheduler",
    "torch",
]

PER_STEP = "cosine_per_step"
AVAI_SCHEDS = ["single_step", "multi_step", "cosine", PER_STEP]
AVAI_WARMUPS = ["constant", "linear"]

Rate = Callable[[float, int], float]  # base rate, epoch (from 0) -> rate


class EpochSchedule:
    """Sets the rate of every parameter group of `optimizer`; `step()` moves to the next epoch.

    Attributes:
        base_lrs: the groups' rates as the optimizer was built with them.
        last_epoch: the epoch, from 0, whose rates the optimizer holds now.
    """

    def __init__(self, optimizer: Optimizer, rate: Rate) -> None:
        self.optimizer = optimizer
        self._rate = rate
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._apply()

    def step(self, epoch: int | None = None) -> None:
        """Move to the next epoch, or to `epoch`."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else int(epoch)
        self._apply()

    def get_last_lr(self) -> list[float]:
        """Return the rates of the current epoch, one a parameter group."""
        return [self._rate(base, self.last_epoch) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over epoch and base rates, and set the rates of this schedule's own optimizer.

        Raises:
            ValueError: the state is of an optimizer with another number of groups.
        """
        base_lrs = list(state_dict["base_lrs"])
        if len(base_lrs) != len(self.base_lrs):
            raise ValueError(
                f"the schedule's state is for {len(base_lrs)} parameter groups, "
                f"the optimizer has {len(self.base_lrs)}"
            )
        self.base_lrs = base_lrs
        self.last_epoch = int(state_dict["last_epoch"])
        self._apply()

    def _apply(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.get_last_lr(), strict=True):
            group["lr"] = rate


def build_lr_scheduler(
    optimizer: Optimizer, optim_cfg: CfgNode, steps: int | None = None
) -> EpochSchedule:
    """Build the schedule `optim_cfg.LR_SCHEDULER`, after a warm-up if WARMUP_EPOCH is above 0.

    Args:
        steps: how many the run takes, of a trainer that calls the schedule's `step` after each;
            for cosine_per_step, the cosine from LR to LR_MIN over all of them.

    Raises:
        ValueError: an unknown schedule or warm-up, or steps that make no sense.
    """
    name = optim_cfg.LR_SCHEDULER
    check_availability(name, AVAI_SCHEDS, what="schedule (OPTIM.LR_SCHEDULER)")
    if name == PER_STEP:
        return EpochSchedule(optimizer, cosine_per_step(_counted(steps, optim_cfg), optim_cfg))
    factor = _cosine(optim_cfg.MAX_EPOCH) if name == "cosine" else _steps(optim_cfg)
    return EpochSchedule(optimizer, _warmed_up(factor, optim_cfg))


def _cosine(max_epoch: int) -> Callable[[int], float]:
    """Return the factor from epoch t-1 to t of (1 + cos(pi t / max_epoch)) / 2, then 0."""

    def factor(epoch: int) -> float:
        if epoch > max_epoch:
            return 0.0
        before = 1 + math.cos(math.pi * (epoch - 1) / max_epoch)
        return (1 + math.cos(math.pi * epoch / max_epoch)) / before

    return factor


def cosine_per_step(steps: int, optim_cfg: CfgNode) -> Rate:
    """Return the rate in step t: LR_MIN + (base - LR_MIN) (1 + cos(pi t / steps)) / 2."""
    low = optim_cfg.LR_MIN

    def rate(base: float, step: int) -> float:
        return low + (base - low) * (1 + math.cos(math.pi * min(step, steps) / steps)) / 2

    return rate


def _counted(steps: int | None, optim_cfg: CfgNode) -> int:
    if steps is None:
        raise ValueError(
            f"OPTIM.LR_SCHEDULER is {PER_STEP}, but this trainer moves its rate once an epoch: "
            "set it to cosine"
        )
    if optim_cfg.WARMUP_EPOCH > 0:
        raise ValueError(
            f"OPTIM.LR_SCHEDULER {PER_STEP} has no warm-up, but OPTIM.WARMUP_EPOCH is "
            f"{optim_cfg.WARMUP_EPOCH}: set it to 0"
        )
    return steps


def _steps(optim_cfg: CfgNode) -> Callable[[int], float]:
    """Return the factor GAMMA at every STEPSIZE-th epoch, or at the epochs in STEPSIZE."""
    raw = optim_cfg.STEPSIZE
    steps = list(raw) if isinstance(raw, tuple | list) else [raw]
    if not steps or not all(isinstance(step, int) for step in steps):
        raise ValueError(f"OPTIM.STEPSIZE must hold whole numbers of epochs, but is {raw!r}")
    gamma = optim_cfg.GAMMA
    if optim_cfg.LR_SCHEDULER == "multi_step":
        return lambda epoch: gamma if epoch in steps else 1.0
    period = steps[-1] if steps[-1] > 0 else optim_cfg.MAX_EPOCH
    return lambda epoch: gamma if epoch % period == 0 else 1.0


def _warmed_up(factor: Callable[[int], float], optim_cfg: CfgNode) -> Rate:
    """Return the rate: warm-up first, then the base rate times the schedule's factors."""
    warmup = max(optim_cfg.WARMUP_EPOCH, 0)
    kind = optim_cfg.WARMUP_TYPE
    if warmup:
        check_availability(kind, AVAI_WARMUPS, what="warm-up (OPTIM.WARMUP_TYPE)")
    first = 0 if optim_cfg.WARMUP_RECOUNT else warmup  # the schedule's epoch after the warm-up

    def rate(base: float, epoch: int) -> float:
        if epoch < warmup and kind == "constant":
            return optim_cfg.WARMUP_CONS_LR
        if epoch < warmup:
            return base * epoch / warmup if epoch else optim_cfg.WARMUP_MIN_LR
        lr = base
        # factor by factor, so that the rounding is that of torch's own step-by-step schedules
        for done in range(first + 1, first + epoch - warmup + 1):
            lr = factor(done) * lr
        return lr

    return rate
