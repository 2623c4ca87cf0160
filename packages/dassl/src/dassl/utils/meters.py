"""Running averages of what a training step returns.

Values on a GPU stay there until they are read: an update never waits for the device.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .distributed import all_reduce_sum, world_size

if TYPE_CHECKING:
    from torch import Tensor

    Number = float | Tensor


class AverageMeter:
    """Keeps the last value and the mean since `reset`.

    Attributes:
        val, avg, sum: floats; reading them waits for the device the values live on.
        count: number of values.
    """

    def __init__(self, ema: bool = False) -> None:
        """`ema`: `avg` is an exponential average (0.9 old + 0.1 new) and not the mean."""
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        self._val: Number = 0.0
        self._sum: Number = 0.0
        self._ema: Number = 0.0
        self.count = 0

    def update(self, val: Any, n: int = 1) -> None:
        """Take in a number, a 0-dim or one-element tensor, standing for the mean of `n` values.

        Raises:
            TypeError: `val` is no single number.
        """
        value = _as_number(val)
        self._val = value
        self._sum = self._sum + value * n
        self._ema = self._ema * 0.9 + value * 0.1
        self.count += n

    def state_dict(self) -> dict[str, float]:
        """Return all of it as plain numbers; this waits for the device the values live on."""
        values = {"val": self._val, "sum": self._sum, "ema": self._ema, "count": self.count}
        return {name: float(value) for name, value in values.items()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over what `state_dict` returned."""
        self._val, self._sum, self._ema = state["val"], state["sum"], state["ema"]
        self.count = int(state["count"])

    @property
    def val(self) -> float:
        return float(self._val)

    @property
    def sum(self) -> float:
        return float(self._sum)

    @property
    def avg(self) -> float:
        if self.ema:
            return float(self._ema)
        return float(self._sum) / max(self.count, 1)


class MetricMeter:
    """An `AverageMeter` per name; prints as 'loss 1.2345 (1.4567) acc ...' (value, mean)."""

    def __init__(self, delimiter: str = " ") -> None:
        self.delimiter = delimiter
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)

    def update(self, input_dict: Mapping[str, Any] | None) -> None:
        """Take in the values of one step; None is no values.

        Raises:
            TypeError: not a mapping from names to single numbers.
        """
        if input_dict is None:
            return
        if not isinstance(input_dict, Mapping):
            raise TypeError(f"expected a dict of scalars, but got {type(input_dict).__name__}")
        for name, value in input_dict.items():
            try:
                self.meters[name].update(value)
            except (TypeError, ValueError) as error:
                raise TypeError(f"metric {name!r} is not a single number: {error}") from error

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Return all of it as plain numbers; this waits for the device the values live on."""
        return {name: meter.state_dict() for name, meter in self.meters.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Take over what `state_dict` returned."""
        for name, values in state.items():
            self.meters[name].load_state_dict(values)

    def all_reduce_mean(self) -> "MetricMeter":
        """Return the mean over the processes of a run; this waits for the device.

        Collective: all processes must have taken in the same names.
        """
        if world_size() == 1 or not self.meters:
            return self
        import torch

        states = self.state_dict()
        rows = [list(state.values()) for state in states.values()]
        sums = all_reduce_sum(torch.tensor(rows, dtype=torch.float64))
        means = MetricMeter(self.delimiter)
        for (name, state), values in zip(states.items(), sums / world_size(), strict=True):
            means.meters[name].load_state_dict(dict(zip(state, values.tolist(), strict=True)))
        return means

    def __str__(self) -> str:
        return self.delimiter.join(
            f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items()
        )


def _as_number(val: Any) -> "Number":
    """Return a float, or a detached 0-dim tensor if `val` lives on another device."""
    if not hasattr(val, "detach"):
        return float(val)
    if val.numel() != 1:
        raise TypeError(f"a tensor of shape {tuple(val.shape)}")
    if val.device.type == "cpu":
        return val.item()
    exact = val.detach().reshape(())
    # a copy, since the caller may change the tensor in place; mps has no float64
    wide = exact.double() if val.device.type != "mps" else exact.float()
    return wide.clone() if wide.dtype == val.dtype else wide
