"""What a run needs beside weights and optimisers to go on as if it had never stopped."""

import random
from typing import Any

import numpy as np
import torch


def collect_run_state(trainer: Any) -> dict[str, Any]:
    """Return, as plain data, the best result, the gradient scaler and all generators.

    If something watches the trainer (`trainer.watch`), also the time that the run took so far.
    """
    scaler = getattr(trainer, "scaler", None)
    best = getattr(trainer, "best_result", None)
    watch = getattr(trainer, "watch", None)
    return {
        "best_result": None if best is None else float(best),
        "scaler": None if scaler is None else scaler.state_dict(),
        "generators": _generators(),
        "spent": None if watch is None else watch.spent(),
    }


def restore_run_state(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Put back what `collect_run_state` returned; what a checkpoint lacks stays as it is."""
    if checkpoint.get("best_result") is not None:
        trainer.best_result = checkpoint["best_result"]
    if checkpoint.get("scaler") and getattr(trainer, "scaler", None) is not None:
        trainer.scaler.load_state_dict(checkpoint["scaler"])
    if checkpoint.get("generators"):
        _set_generators(checkpoint["generators"])
    if checkpoint.get("spent") and getattr(trainer, "watch", None) is not None:
        trainer.watch.go_on_from(checkpoint["spent"], int(checkpoint["epoch"]))


def _generators() -> dict[str, Any]:
    state: Any = np.random.get_state()
    kind, keys, position, has_gauss, gauss = state
    used_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if used_cuda else [],
    }


def _set_generators(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, device_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(device_state, device)
