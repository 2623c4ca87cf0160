"""The base of all trainers: what a step is made of, and the order of events."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dassl.data.loader import stop_workers
from dassl.data.seeding import set_loader_epoch
from dassl.utils.collectives import largest_of_all, weights_from_main
from dassl.utils.distributed import is_main, world_size
from dassl.utils.stopping import patiently, stop_signals

from .exchange import GradientExchange, check_divisible
from .finite import REMEDY
from .models import ModelKeeper
from .run_state import train_loaders

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TrainerBase(ModelKeeper):
    """Runs the epochs. Subclasses say what one is, and what happens before and after.

    Attributes:
        start_epoch, max_epoch: the run goes from one up to, not including, the other.
        epoch: the current one, counted from 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self._writer: SummaryWriter | None = None
        self._losses_finite: Tensor | None = None
        self._weight = 1 / world_size()  # of this process in the mean over the present batch
        self.start_epoch = self.epoch = self.max_epoch = 0

    # --- one step

    def model_backward_and_update(self, loss: Tensor, names: str | list[str] | None = None) -> None:
        """Zero the gradients, run backward, and let the optimisers step."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def prograd_backward_and_update(
        self,
        loss_a: Tensor,
        loss_b: Tensor,
        lambda_: float = 1.0,
        names: str | list[str] | None = None,
    ) -> None:
        """Step down `loss_a` without going up `loss_b`, as ProGrad (arXiv 2205.14865) does.

        Where the two gradients a and b of a parameter point against each other, a counts less
        `lambda_` times its part along b; elsewhere a counts.

        Raises:
            ValueError: the run has several processes, whose gradients are not yet one.
        """
        if world_size() > 1:
            raise ValueError(
                "prograd_backward_and_update needs all images of a batch in one process: start "
                "it without torchrun"
            )
        chosen = self.get_model_names(names)
        trained = [p for name in chosen for p in self._models[name].parameters() if p.requires_grad]
        self.model_zero_grad(chosen)
        self.detect_anomaly(loss_b)
        b_grads = torch.autograd.grad(loss_b, trained, retain_graph=True, allow_unused=True)
        self.model_backward(loss_a)
        for param, b in zip(trained, b_grads, strict=True):
            if param.grad is not None and b is not None:
                against = (param.grad * b).sum().clamp_max(0) / b.square().sum().clamp_min(1e-30)
                param.grad -= lambda_ * against * b
        self.model_update(chosen)

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        """Drop the gradients of all models that are trained, or of `names`."""
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                optim.zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        """Check that the loss is a number, and run backward."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        """Let the optimisers of all models, or of `names`, take their step."""
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                optim.step()

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Move the schedules to the next epoch; to be called after its last batch."""
        for name in self.get_model_names(names):
            if (sched := self._scheds[name]) is not None:
                sched.step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Return the learning rate of the first model that has an optimiser; 0 if none has."""
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                return optim.param_groups[0]["lr"]
        return 0.0

    def detect_anomaly(self, loss: Tensor) -> None:
        """Find a loss that is infinite or no number.

        On a GPU the answer is not waited for: it is read when the next line is printed, and at
        the end of the epoch, before anything is saved. Several processes read it together.

        Raises:
            FloatingPointError: it is one.
        """
        finite = torch.isfinite(loss.detach()).all()
        before = self._losses_finite
        self._losses_finite = finite if before is None else before & finite
        if loss.device.type == "cpu" and world_size() == 1:
            self.raise_on_anomaly()

    def raise_on_anomaly(self) -> None:
        """Read what `detect_anomaly` found since the last call.

        Raises:
            FloatingPointError: a loss was infinite or no number.
        """
        finite, self._losses_finite = self._losses_finite, None
        if finite is not None and any(largest_of_all(int(not finite))):
            batch = f", batch {self.batch_idx + 1}" if hasattr(self, "batch_idx") else ""
            near = "" if finite.device.type == "cpu" else " or shortly before"
            raise FloatingPointError(
                f"The loss became infinite or NaN in epoch {self.epoch + 1}{batch}{near}. "
                f"What was saved before is kept, nothing since. {REMEDY}"
            )

    # --- TensorBoard

    def init_writer(self, log_dir: str, purge_step: int | None = None) -> None:
        """Write scalars to TensorBoard files in `log_dir` from now on.

        What an interrupted run wrote there of `purge_step` and later is not shown.
        """
        if self._writer is None and is_main():
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            print(f"TensorBoard files are in {log_dir}")
            self._writer = SummaryWriter(log_dir, purge_step=purge_step)

    def close_writer(self) -> None:
        """Close the TensorBoard files, if any are open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> None:
        """Write a number to TensorBoard; without a writer, do nothing."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # --- the order of events

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Run all epochs. `before_train` may move `start_epoch`.

        A signal that ends the run (see `dassl.utils.stopping`) waits until a step is done.
        """
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        with stop_signals():
            self.before_train()
            self._start_together()
            try:
                with patiently():
                    for epoch in range(self.start_epoch, self.max_epoch):
                        self._run_one(epoch)
            finally:
                for loader in train_loaders(self):
                    stop_workers(loader)
            self.after_train()

    def _start_together(self) -> None:
        """Let the processes of a run begin with the same weights, and exchange gradients."""
        if world_size() == 1:
            return
        check_divisible(self._models, self._optims)
        for model in self._models.values():
            values = model.state_dict().values()
            weights_from_main([value.detach() for value in values if isinstance(value, Tensor)])
        kept = list(vars(self).values())
        optimizers = {id(o): o for o in [*self._optims.values(), *kept] if isinstance(o, Optimizer)}
        scalers = {id(s): s for s in kept if isinstance(s, torch.amp.GradScaler)}
        exchange = GradientExchange(lambda: self._weight)
        exchange.attach(optimizers.values(), scalers.values())

    def _run_one(self, epoch: int) -> None:
        self.epoch = epoch
        for loader in train_loaders(self):
            set_loader_epoch(loader, epoch)
        self.before_epoch()
        self.run_epoch()
        self.raise_on_anomaly()
        self._end_epoch()

    def _end_epoch(self) -> None:
        self.after_epoch()

    def before_train(self) -> None:
        """Runs once, before the first epoch."""

    def after_train(self) -> None:
        """Runs once, after the last epoch."""

    def before_epoch(self) -> None:
        """Runs before every epoch."""

    def after_epoch(self) -> None:
        """Runs after every epoch."""

    def run_epoch(self) -> None:
        raise NotImplementedError

    def test(self, split: str | None = None) -> float:
        raise NotImplementedError

    def parse_batch_train(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def parse_batch_test(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def forward_backward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError

    def model_inference(self, input: Any) -> Any:
        raise NotImplementedError
