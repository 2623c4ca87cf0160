"""Warm-ups around a schedule of PyTorch, for plugins that build their schedules themselves.

`build_lr_scheduler` needs none of them: its schedules warm up by themselves.
"""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class _WarmupScheduler(LRScheduler):
    """The rates of the first `warmup_epoch` epochs; then `successor`, from where it stands."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: Any,
        warmup_epoch: int,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        """`verbose`: not used; part of the signature that plugins call."""
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: int | None = None) -> None:
        """Move to the next epoch."""
        if self.last_epoch < self.warmup_epoch:
            super().step(epoch)
            return
        self.successor.step(epoch)
        self._last_lr = self.successor.get_last_lr()

    def get_lr(self) -> list[float]:  # type: ignore[override]  # newer ones know tensors too
        """Return the rates of the current epoch, one a parameter group."""
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return self._warm_rates()

    def _warm_rates(self) -> list[float]:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; the successor goes on with its own optimizer."""
        own = dict(state_dict)
        self.successor.load_state_dict(own.pop("successor"))
        super().load_state_dict(own)


class ConstantWarmupScheduler(_WarmupScheduler):
    """The same rate, `cons_lr`, in all epochs of the warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: Any,
        warmup_epoch: int,
        cons_lr: float,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def _warm_rates(self) -> list[float]:
        return [self.cons_lr for _ in self.base_lrs]


class LinearWarmupScheduler(_WarmupScheduler):
    """`min_lr` in the first epoch, then a rate that grows by equal parts."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: Any,
        warmup_epoch: int,
        min_lr: float,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def _warm_rates(self) -> list[float]:
        if self.last_epoch == 0:
            return [self.min_lr for _ in self.base_lrs]
        return [float(lr) * self.last_epoch / self.warmup_epoch for lr in self.base_lrs]
