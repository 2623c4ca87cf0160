"""Data-parallel training: processes start with equal weights, and average their gradients.

Torch's DDP is not used: it wraps the module that is called, while plugins call `self.model`, take
it apart and name its parameters. A hook on each trained parameter is shorter than such a wrapping,
and gradients are already averaged when `backward` returns, so plugins may clip them as they like.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from dassl.utils.distributed import all_reduce_sum, broadcast_tensors, world_size

from .hooks import Hook

if TYPE_CHECKING:
    from .trainer import TrainerBase


class GradientAveraging(Hook):
    """Averages the gradients of registered models and optimizers over all processes."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def before_train(self, trainer: "TrainerBase") -> None:
        if world_size() == 1:
            return
        check_no_batch_norm(trainer)
        for model in trainer._models.values():
            values = model.state_dict().values()
            broadcast_tensors(value.detach() for value in values if isinstance(value, Tensor))
        self._handles = [p.register_hook(average) for p in trained_parameters(trainer)]

    def after_train(self, trainer: "TrainerBase") -> None:
        for handle in self._handles:
            handle.remove()


def average(gradient: Tensor) -> Tensor:
    """Return the mean of a gradient over all processes. Collective."""
    return all_reduce_sum(gradient.div(world_size()).contiguous())


def trained_parameters(trainer: "TrainerBase") -> list[Tensor]:
    """Return the parameters of all models and optimizers of a trainer that require a gradient."""
    found = [p for model in trainer._models.values() for p in model.parameters()]
    for optim in (*trainer._optims.values(), *vars(trainer).values()):  # also unregistered ones
        groups = optim.param_groups if isinstance(optim, Optimizer) else []
        found += [p for group in groups for p in group["params"]]
    return list({id(p): p for p in found if p.requires_grad}.values())


def check_no_batch_norm(trainer: "TrainerBase") -> None:
    """Check that no trained model needs the statistics of whole batches.

    Raises:
        ValueError: one does.
    """
    for name, model in trainer._models.items():
        norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
        if trainer._optims[name] is not None and norms:
            raise ValueError(
                f"{name} is trained with batch normalization ({type(norms[0]).__name__}), which "
                "needs all images of a batch in one process: start it without torchrun"
            )
