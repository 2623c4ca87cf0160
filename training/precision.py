"""`PREC`: what it means on a device, and whether its loss has to be scaled."""

import warnings
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch

# Float16 has few exponents: its loss is scaled. Elsewhere bfloat16, which has those of float32.
HALF = {"cuda": torch.float16}


class Precision(NamedTuple):
    """A value of PREC, fp32, amp or fp16, on a device."""

    name: str
    device: torch.device

    @property
    def half(self) -> torch.dtype:
        """The half precision that the device does well: float16 on CUDA, bfloat16 elsewhere."""
        return HALF.get(self.device.type, torch.bfloat16)

    @property
    def computed(self) -> torch.dtype:
        """The precision of matrix products."""
        return torch.float32 if self.name == "fp32" else self.half

    @property
    def scales_loss(self) -> bool:
        return self.computed == torch.float16

    def autocast(self) -> AbstractContextManager[None]:
        """Half precision where PREC asks for it."""
        return torch.autocast(self.device.type, self.half, enabled=self.name != "fp32")

    def remedy(self, key: str, learns: bool) -> str:
        """What to do where a computed value is infinite or NaN; `key` is what sets PREC."""
        if self.name != "fp32":
            return f"Half precision may be too narrow: set {key} to fp32"
        another = "another epoch (--load-epoch), or train again with a lower OPTIM.LR"
        return f"PREC is fp32 already: take {another if learns else 'another --backbone'}"


def describe(device: torch.device) -> str:
    """What PREC amp means on a device; ValueError if this PyTorch cannot do it there."""
    half = Precision("amp", device).half
    name = str(half).removeprefix("torch.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # some versions warn, and compute in float32
        try:
            torch.autocast(device.type, half)
        except (RuntimeError, UserWarning) as error:
            raise ValueError(
                f"PREC amp: this PyTorch, {torch.__version__}, has no {name} autocast on "
                f"{device.type}; take PREC fp32"
            ) from error
    where = "a CPU" if device.type == "cpu" else device.type
    scaled = " and a scaled loss" if half == torch.float16 else ""
    return f"PREC amp on {where} means {name} autocast{scaled}"
