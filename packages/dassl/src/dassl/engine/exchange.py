"""Gradients of several processes: summed just before an optimiser or a gradient scaler uses them.

That place is the same in trainers of every kind, whether they let the engine step or step
themselves. The frozen parts of a model have no gradients and are not exchanged.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from dassl.utils.collectives import sum_of_all


class GradientExchange:
    """Makes the gradient of a batch's mean out of those of its parts."""

    def __init__(self, weight: Callable[[], float]) -> None:
        """`weight`: returns this process's share of the mean over the batch, see `Division`."""
        self.weight = weight
        self._unscaled: set[int] = set()  # optimisers whose gradients a scaler has had exchanged

    def attach(self, optimizers: Iterable[Optimizer], scalers: Iterable[Any]) -> None:
        """Step in from now on before these step or unscale."""
        for optim in optimizers:
            optim.register_step_pre_hook(self._before_step)
        for scaler in scalers:
            self._attach_scaler(scaler)

    def _attach_scaler(self, scaler: Any) -> None:
        unscale = scaler.unscale_

        def unscale_whole(optim: Optimizer) -> None:
            # one that finds an infinite gradient lets its optimiser skip: all must find it
            exchange(_gradients(optim), self.weight())
            self._unscaled.add(id(optim))
            unscale(optim)

        scaler.unscale_ = unscale_whole

    def _before_step(self, optim: Optimizer, args: Any, kwargs: Any) -> None:
        if id(optim) in self._unscaled:
            self._unscaled.remove(id(optim))
        else:
            exchange(_gradients(optim), self.weight())


def check_divisible(models: Mapping[str, nn.Module], optims: Mapping[str, Any]) -> None:
    """Find out whether the images of a batch can be in several processes.

    Raises:
        ValueError: a model that is trained has statistics of whole batches.
    """
    for name, model in models.items():
        whole = [part for part in model.modules() if isinstance(part, _BatchNorm)]
        if optims[name] is not None and whole:
            raise ValueError(
                f"{name} is trained with batch normalisation ({type(whole[0]).__name__}), which "
                "needs all images of a batch in one process: start it without torchrun"
            )


@torch.no_grad()
def exchange(gradients: list[Tensor], weight: float) -> None:
    """Replace gradients by their weighted sum over all processes: one message for each type."""
    kinds: defaultdict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
    for gradient in gradients:
        kinds[gradient.dtype, gradient.device].append(gradient)
    for same in kinds.values():
        flat = torch.cat([gradient.flatten() for gradient in same]).mul_(weight)
        totals = sum_of_all(flat).split([gradient.numel() for gradient in same])
        for gradient, total in zip(same, totals, strict=True):
            gradient.copy_(total.view_as(gradient))


def _gradients(optim: Optimizer) -> list[Tensor]:
    values = (value for group in optim.param_groups for value in group["params"])
    return [value.grad for value in values if value.grad is not None]
