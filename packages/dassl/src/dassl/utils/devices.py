"""The device of a run: DEVICE of the configuration, and USE_CUDA, which Dassl has.

'auto' is the accelerator that is there, CUDA first, else the CPU; 'cuda' that of this process.
"""

from typing import Any

import torch
from yacs.config import CfgNode

from .distributed import world_size


def accelerator() -> str | None:
    """Return the kind of accelerator that is there, CUDA first; None if there is none."""
    if torch.cuda.is_available():
        return "cuda"
    current: Any = getattr(torch, "accelerator", None)  # torch 2.6
    if current is not None:
        return current.current_accelerator().type if current.is_available() else None
    there: dict[str, Any] = {"xpu": torch.xpu, "mps": torch.backends.mps}
    return next((kind for kind, module in there.items() if module.is_available()), None)


def devices() -> list[str]:
    """Name every device of this machine, the CPU first."""
    kind = accelerator()
    if kind is None:
        return ["cpu"]
    return ["cpu", kind, *(f"{kind}:{i}" for i in range(getattr(torch, kind).device_count()))]


def pick_device(name: str, use_cuda: bool = True, key: str = "DEVICE") -> torch.device:
    """Return the device of a name.

    Args:
        use_cuda: with False, 'auto' is the CPU.
        key: what gave the name, for messages.

    Raises:
        ValueError: it is not there, contradicts USE_CUDA, or is not for several processes.
    """
    if name == "auto":
        kind = accelerator() if use_cuda else None
        several = world_size() > 1 and kind != "cuda"
        return torch.device("cpu" if kind is None or several else kind)
    if name not in devices():
        raise ValueError(f"{key} {name!r} is not there; this machine has {', '.join(devices())}")
    if name.startswith("cuda") and not use_cuda:
        raise ValueError(f"{key} is {name}, but USE_CUDA is False: leave out one of the two")
    if world_size() > 1 and name not in ("cpu", "cuda"):
        raise ValueError(
            f"{key} is {name}, but of several processes each computes on a CUDA device of its own "
            "or on the CPU: set it to auto"
        )
    return torch.device(name)


def device_of(cfg: CfgNode) -> torch.device:
    """Return the device of a configuration; one without DEVICE means 'auto'."""
    return pick_device(cfg.get("DEVICE", "auto"), cfg.USE_CUDA)
