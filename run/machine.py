"""What a run runs on, and what it takes of it."""

import platform
import sys
from pathlib import Path

import torch


def device_name(device: torch.device) -> str:
    """The accelerator's name, or the processor's."""
    if device.type in ("cuda", "xpu"):
        return str(getattr(torch, device.type).get_device_name(device))
    where = "" if device.type == "cpu" else f", {device.type}"
    return f"{_processor()}{where}"


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> tuple[int | None, str]:
    """The most bytes held so far, and by what: 'CUDA allocator' or 'XPU allocator', else 'resident
    set' of this process, which leaves out workers. None where the system does not say."""
    if device.type in ("cuda", "xpu"):
        most = getattr(torch, device.type).max_memory_allocated(device)
        return most, f"{device.type.upper()} allocator"
    return _peak_resident(), "resident set"


def _peak_resident() -> int | None:
    for line in _lines("/proc/self/status"):  # getrusage would count the parent before exec
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text().splitlines() if path.is_file() else []
