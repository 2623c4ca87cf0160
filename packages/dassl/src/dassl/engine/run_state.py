"""What a run needs beside weights and optimisers to go on as if it had never stopped."""

import random
from typing import Any

import numpy as np
import torch

from dassl.data.seeding import loader_seed, set_loader_seed
from dassl.utils.collectives import from_main
from dassl.utils.distributed import world_size


def collect_run_state(trainer: Any) -> dict[str, Any]:
    """Return, as plain data, the best result, the gradient scaler, all generators, the seeds of
    the training loaders, what the trainer keeps of its own, and, if something watches it
    (`trainer.watch`), the time that the run took so far."""
    scaler = getattr(trainer, "scaler", None)
    best = getattr(trainer, "best_result", None)
    watch = getattr(trainer, "watch", None)
    return {
        "best_result": None if best is None else float(best),
        "scaler": None if scaler is None else scaler.state_dict(),
        "generators": generators(),
        "loader_seeds": [loader_seed(loader) for loader in train_loaders(trainer)],
        "num_batches": getattr(trainer, "num_batches", None),
        "extra": trainer.extra_state(),
        "spent": None if watch is None else watch.spent(),
    }


def train_loaders(trainer: Any) -> list[Any]:
    """Return the loaders of labelled and unlabelled images; None for one that is not there."""
    return [getattr(trainer, name, None) for name in ("train_loader_x", "train_loader_u")]


def restore_run_state(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Put back what `collect_run_state` returned; what a checkpoint lacks stays as it is."""
    if checkpoint.get("best_result") is not None:
        trainer.best_result = checkpoint["best_result"]
    if checkpoint.get("scaler") and getattr(trainer, "scaler", None) is not None:
        trainer.scaler.load_state_dict(checkpoint["scaler"])
    seeds = checkpoint.get("loader_seeds") or (None, None)  # older ones have none
    for loader, seed in zip(train_loaders(trainer), seeds, strict=True):
        set_loader_seed(loader, seed)
    trainer.load_extra_state(checkpoint.get("extra") or {})
    if checkpoint.get("generators"):
        set_generators(checkpoint["generators"])
    if checkpoint.get("spent") and getattr(trainer, "watch", None) is not None:
        trainer.watch.go_on_from(checkpoint["spent"], int(checkpoint["epoch"]))


def generators() -> dict[str, Any]:
    """Return the states of Python's, numpy's and torch's generators."""
    state: Any = np.random.get_state()
    kind, keys, position, has_gauss, gauss = state
    used_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if used_cuda else [],
    }


def same_generators() -> None:
    """Put the generators of all processes of a run to where they are in the first."""
    if world_size() > 1:
        set_generators(from_main(generators))


def set_generators(state: dict[str, Any]) -> None:
    """Put back what `generators` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    cuda = state["cuda"][: torch.cuda.device_count()]
    if world_size() > 1:  # each process draws on a GPU of its own, as the first one did
        cuda = cuda[:1] * len(cuda)
    for device, device_state in enumerate(cuda):
        torch.cuda.set_rng_state(device_state, device)
