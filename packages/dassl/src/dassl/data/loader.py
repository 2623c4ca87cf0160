"""Loaders: what puts images together into batches, with workers that help."""

import atexit
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from dassl.utils.devices import device_of
from dassl.utils.distributed import local_world_size
from dassl.utils.stopping import ignore_stop_signals

from .datasets import Datum
from .samplers import build_sampler
from .seeding import SeededSampler, draw_seed
from .wrapper import DatasetWrapper, Transform


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Transform | Sequence[Transform] | None = None,
    is_train: bool = True,
    dataset_wrapper: Callable[..., Dataset[Any]] | None = None,
) -> DataLoader[Any]:
    """Build a loader over a list of images.

    A training loader's seed is one draw from torch's global generator, made here (`DataManager`
    puts that back); nothing is drawn from it later. Test loaders draw nothing: all their passes
    are the same. Workers of a training loader live until `stop_workers`, those of a test loader
    as long as a pass.

    Args:
        dataset_wrapper: called as (cfg, data_source, transform=, is_train=); by default
            `DatasetWrapper`, which one's own should derive from.

    Raises:
        ValueError: there is nothing to load, or the sampler does not fit the data.
    """
    if not data_source:
        raise ValueError("There are no images to load: the list of the data set is empty")
    generator = torch.Generator()
    sampler = build_sampler(
        sampler_type, cfg, data_source, batch_size, n_domain, n_ins, generator=generator
    )
    seed = draw_seed() if is_train else 0
    num_workers = min(cfg.DATALOADER.NUM_WORKERS, usable_cores())
    wrapper = DatasetWrapper if dataset_wrapper is None else dataset_wrapper
    loader: DataLoader[Any] = DataLoader(
        wrapper(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=SeededSampler(sampler, generator, seed, fixed=not is_train),
        num_workers=num_workers,
        multiprocessing_context=_LoaderContext() if num_workers else None,
        worker_init_fn=ignore_stop_signals,
        persistent_workers=is_train and num_workers > 0,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=device_of(cfg).type == "cuda",
        generator=torch.Generator().manual_seed(seed),
    )
    if len(loader) == 0:
        raise ValueError(
            f"{sampler_type} makes no batch of {batch_size} out of {len(data_source)} images: "
            "lower the batch size"
        )
    return loader


def stop_workers(loader: DataLoader[Any] | None) -> None:
    """End the workers that a training loader keeps; its next pass starts new ones.

    Left to the garbage collector, each may be waited for by seconds.
    """
    iterator: Any = getattr(loader, "_iterator", None)
    if loader is not None and iterator is not None:  # torch has no public way to say it
        iterator._shutdown_workers()
        loader._iterator = None


_workers: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()  # to their parents


class _LoaderContext(multiprocessing.context.BaseContext):
    """The default way to start processes, which notes those that loaders start."""

    def __init__(self) -> None:
        method = multiprocessing.get_start_method(allow_none=True)  # a plugin may still set one
        self._method: Any = method or multiprocessing.get_all_start_methods()[0]

    def get_context(self, method: str | None = None) -> Any:
        return multiprocessing.get_context(self._method)

    def get_start_method(self, allow_none: bool = False) -> Any:
        return self._method

    def Process(self, *args: Any, **kwargs: Any) -> Any:
        process = self.get_context().Process(*args, **kwargs)
        _workers[process] = os.getpid()
        return process


@atexit.register
def _end_workers() -> None:
    """Kill the workers of this process: they ignore the SIGTERM that Python sends at exit."""
    if hasattr(signal, "SIGCHLD"):  # torch would take their end for a fault
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if _workers.get(child) == os.getpid():
            child.kill()


def usable_cores() -> int:
    """Return how many cores this process may use: more workers than that slow loading down.

    Processes of one run share them, and have one at least.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not everywhere
        cores = len(os.sched_getaffinity(0))
    return max(cores // local_world_size(), 1)
