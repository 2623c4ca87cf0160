"""Finding what became infinite or no number, before it is saved, without waiting for a GPU."""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

from torch import nn

from dassl.utils.collectives import first_of_all
from dassl.utils.finite import not_finite

REMEDY = "Lower OPTIM.LR, or train in a wider number format"
_MOST_STEPS = 1000  # that are remembered


def check_weights(models: Mapping[str, nn.Module], what: str) -> None:
    """Check that what is trained in `models` is numbers.

    Raises:
        FloatingPointError: it is not, and therefore not `what` (saved, say).
    """
    trained = {
        f"{model}.{name}": value
        for model, module in models.items()
        for name, value in module.named_parameters()
        if value.requires_grad
    }
    if bad := not_finite(trained):
        raise FloatingPointError(
            f"the weights {', '.join(bad[:3])} became infinite or NaN and are not {what}. {REMEDY}"
        )


class LossWatch:
    """Remembers the named values of the latest steps, and says which was no number first."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, dict[str, Any]]] = []

    def add(self, batch: int, summary: Mapping[str, Any] | None) -> None:
        """Take in what a step returned; nothing is read from the device."""
        values = (summary or {}).items()
        kept = {name: v.detach() if hasattr(v, "detach") else v for name, v in values}
        self._steps.append((batch, kept))

    @property
    def is_full(self) -> bool:
        """Whether `check` or `forget` should be called, so that what is kept does not grow."""
        return len(self._steps) >= _MOST_STEPS

    def forget(self) -> None:
        """Drop the steps since the last call: all was well."""
        self._steps = []

    def check(self, epoch: int, num_batches: int) -> None:
        """Look at the steps since the last call, in all processes; this waits for the device.

        Raises:
            FloatingPointError: a value that is called a loss is infinite or no number.
        """
        steps, self._steps = self._steps, []
        found = ((batch, bad) for batch, values in steps if (bad := _bad_losses(values)))
        first = first_of_all(next(found, None))
        if first is not None:
            _refuse(first[1], epoch, first[0], num_batches)


def _bad_losses(values: Mapping[str, Any]) -> list[str]:
    """Name what is not finite, if there is a loss among it."""
    bad = [name for name, value in values.items() if not math.isfinite(float(value))]
    if not any("loss" in name for name in bad):
        return []
    return [name for name in bad if name != "loss"] or bad


def _refuse(names: list[str], epoch: int, batch: int, num_batches: int) -> NoReturn:
    terms = " and ".join(repr(name) for name in names)
    raise FloatingPointError(
        f"{terms} became infinite or NaN in epoch {epoch + 1}, batch {batch + 1} of {num_batches}. "
        f"What was saved before is kept, nothing since. {REMEDY}"
    )
