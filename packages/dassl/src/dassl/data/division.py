"""A loader's batches, divided among the processes of a run.

Every process goes through the same batches and loads its part of each: of N images those of number
rank, rank + world size, and so on. One that would get none takes the first image, so that it goes
through the same steps, and its results count for nothing.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dassl.utils.collectives import gathered
from dassl.utils.distributed import rank, world_size

from .seeding import SeededFetching, SeededSampler


class Division:
    """Who loads what of a loader's batches.

    Those of `build_data_loader` are divided, if their data set derives from `DatasetWrapper`. Of
    others every process has all.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.divides = (
            world_size() > 1
            and isinstance(loader.dataset, SeededFetching)
            and isinstance(loader.sampler, SeededSampler)
            and bool(loader.batch_size)
        )

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let passes that begin within load this process's part alone."""
        dataset: Any = self.loader.dataset
        if self.divides:
            dataset.division = (rank(), world_size())
        try:
            yield
        finally:
            if self.divides:
                dataset.division = (0, 1)

    def size(self, batch: int) -> int:
        """Return how many images batch number `batch` has, in all processes."""
        most = self.loader.batch_size or 1
        start = batch % len(self.loader) * most
        return min(most, len(self.loader.sampler) - start)  # type: ignore[arg-type]

    def is_even(self, batch: int) -> bool:
        """Say whether all processes have equally many images of a batch."""
        return not self.divides or self.size(batch) % world_size() == 0

    def weight(self, batch: int) -> float:
        """Return this process's share of a mean over a batch; all shares together are 1."""
        if not self.divides:
            return 1 / world_size()
        size = self.size(batch)
        return len(range(rank(), size, world_size())) / size

    def whole(self, batch: int, part: Any) -> Any:
        """Return what one process would have for a batch: the parts of all, in its order.

        Args:
            part: a tensor with a row for each image of this process, or a tuple or list of such.
        """
        if not self.divides:
            return part
        if isinstance(part, tuple | list):
            return type(part)(self.whole(batch, item) for item in part)
        return joined(part, self.size(batch))


def divided_alike(loaders: Iterable[DataLoader[Any]], batches: int) -> list[Division]:
    """Divide loaders so that a process has one share of the batches of all; if their sizes do not
    allow it, every process has all."""
    divisions = [Division(loader) for loader in loaders]
    if not all(d.divides and all(map(d.is_even, range(batches))) for d in divisions):
        for division in divisions:
            division.divides = False
    return divisions


def joined(part: Tensor, size: int) -> Tensor:
    """Put the rows that all processes have of a batch of `size` together: (size, ...)."""
    most = -(-size // world_size())
    lacking = part[-1:].expand(most - len(part), *part.shape[1:])
    parts = gathered(torch.cat([part, lacking]))
    return torch.stack(parts, dim=1).flatten(0, 1)[:size]
