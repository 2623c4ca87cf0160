"""An accelerator that this machine does not have: what is moved to it stays on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch.overrides import TorchFunctionMode

from dassl.utils import devices


class StandIn(TorchFunctionMode):
    """Takes 'xpu' as the CPU wherever torch is asked for it; `asked` has what it was asked for."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.asked = kind, set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def known(value):
            if isinstance(value, torch.device | str) and str(value).split(":")[0] == self.kind:
                self.asked.add(getattr(func, "__name__", str(func)))
                return torch.device("cpu")
            return value

        if func is torch.device:  # a name, and nothing on it
            return func(*args, **(kwargs or {}))
        kwargs = {name: known(value) for name, value in (kwargs or {}).items()}
        return func(*map(known, args), **kwargs)


FUNCTIONS = {  # of torch.xpu, say
    "is_available": lambda: True,
    "device_count": lambda: 2,
    "get_device_name": lambda device: f"stand-in of {device}",
    "max_memory_allocated": lambda device: 123,
}


@contextmanager
def accelerator(monkeypatch, kind: str, newer: bool | None = None) -> Iterator[StandIn]:
    """There is an accelerator of this kind and no CUDA, as the engine sees it.

    newer: as torch says it, with `torch.accelerator` (torch 2.6) or without
    """
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        for name, function in FUNCTIONS.items():
            patch.setattr(getattr(torch, kind), name, function, raising=False)
        if newer is None:  # torch's own optimizers would use it
            patch.setattr(devices, "accelerator", lambda: kind)
        elif newer:
            module = getattr(torch, "accelerator", SimpleNamespace())
            patch.setattr(torch, "accelerator", module, raising=False)
            patch.setattr(module, "is_available", lambda: True, raising=False)
            current = lambda **how: torch.device(kind)  # noqa: E731
            patch.setattr(module, "current_accelerator", current, raising=False)
        else:
            patch.delattr(torch, "accelerator", raising=False)
            patch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
        with StandIn(kind) as stand_in:
            yield stand_in
