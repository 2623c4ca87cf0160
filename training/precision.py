"""`PREC`: what half precision means on a device, and whether its loss has to be scaled."""

import warnings

import torch

# Float16 has few exponents: its loss is scaled. Elsewhere bfloat16, which has those of float32.
HALF = {"cuda": torch.float16}


def half_of(device: torch.device) -> torch.dtype:
    """The half precision that a device does well."""
    return HALF.get(device.type, torch.bfloat16)


def describe(device: torch.device) -> str:
    """What PREC amp means on a device; ValueError if this PyTorch cannot do it there."""
    half = half_of(device)
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
