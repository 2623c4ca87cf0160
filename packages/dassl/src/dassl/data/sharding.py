"""Batches sharded over the processes of a run.

Every process goes through the same batches and loads its shard of each: of N images those of number
rank, rank + world size, and so on. Shards of a training batch have one size. Those of a test batch
may differ by one image; a process that would get none loads the first image, which is left out
when the shards are gathered.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dassl.utils.distributed import all_gather, rank, world_size

from .seeding import SeededFetching, SeededSampler


class BatchSharding:
    """How the batches of a loader are sharded.

    Loaders of `build_data_loader` are, if their data set derives from `DatasetWrapper`. Of other
    loaders every process has whole batches.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.shards = (
            world_size() > 1
            and isinstance(loader.dataset, SeededFetching)
            and isinstance(loader.sampler, SeededSampler)
            and bool(loader.batch_size)
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let passes that begin within load the shards of this process alone."""
        dataset: Any = self.loader.dataset
        if self.shards:
            dataset.shard = (rank(), world_size())
        try:
            yield
        finally:
            if self.shards:
                dataset.shard = (0, 1)

    def size(self, batch: int) -> int:
        """Return how many images batch number `batch` has in all processes together."""
        most = self.loader.batch_size or 1
        return min(most, len(self.loader.sampler) - batch * most)  # type: ignore[arg-type]

    def check_equal_shards(self) -> None:
        """Check that the first batch, and so every batch of a training loader, divides evenly.

        Raises:
            ValueError: it does not.
        """
        if not self.shards:
            return
        count, size = world_size(), self.size(0)
        if size % count == 0:
            return
        full = size == self.loader.batch_size
        sizes = [size // count * count, *[(size // count + 1) * count] * full]
        nearest = " or ".join(str(size) for size in sizes if size) or str(count)
        few = "" if full else " (all there are in the training set)"
        raise ValueError(
            f"a batch of {size} images{few} cannot be divided among {count} processes: set "
            f"DATALOADER.TRAIN_X.BATCH_SIZE to {nearest}, or start another number of processes"
        )

    def gather(self, batch: int, shard: Any) -> Any:
        """All-gather the shards of a batch in the order of the batch.

        Args:
            shard: a tensor with a row for each image of this process, or a tuple or list of such.
        """
        if not self.shards:
            return shard
        if isinstance(shard, tuple | list):
            return type(shard)(self.gather(batch, item) for item in shard)
        return gather_rows(shard, self.size(batch))


def gather_rows(shard: Tensor, size: int) -> Tensor:
    """All-gather the rows of a batch of `size` images: (size, ...)."""
    most = -(-size // world_size())
    padding = shard[-1:].expand(most - len(shard), *shard.shape[1:])
    shards = all_gather(torch.cat([shard, padding]))
    return torch.stack(shards, dim=1).flatten(0, 1)[:size]
