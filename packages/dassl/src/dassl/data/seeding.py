"""Randomness of loading that belongs to the image and not to the process that loads it.

A loader's sampler hands out indices that carry a seed each, made of the loader's own seed, the
epoch and the place in the epoch. The data set sets the generators to it while it prepares that
image and puts them back afterwards. So batches are the same with any number of workers, and
loading neither reads nor moves the generators that the model's own randomness comes from.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler


class SeededIndex(int):
    """The index of an image, and the seed for what is random in preparing it."""

    seed: int

    def __new__(cls, index: int, seed: int) -> "SeededIndex":
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple[Any, ...]:  # indices travel to the workers
        return SeededIndex, (int(self), self.seed)


class SeededSampler(Sampler[int]):
    """Yields what `sampler` yields, as `SeededIndex`.

    Every pass is shuffled anew; the same passes after `set_epoch` with the same number are
    shuffled alike, whatever happened in between.
    """

    def __init__(
        self, sampler: Sampler[int], generator: torch.Generator, seed: int, fixed: bool = False
    ) -> None:
        """
        Args:
            generator: the one `sampler` draws from; it is seeded at every pass.
            seed: of this loader.
            fixed: every pass is the same, as an evaluation should be.
        """
        self.sampler = sampler
        self.generator = generator
        self.seed = seed
        self.fixed = fixed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the passes from now on belong to."""
        self._epoch = epoch
        self._passes = 0
        self._skipped = 0

    def skip(self, indices: int) -> None:
        """Leave out the first indices of the next pass."""
        self._skipped = indices

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        place = (0, 0) if self.fixed else (self._epoch, self._passes)
        self._passes += 1
        skipped, self._skipped = self._skipped, 0
        start = int(np.random.SeedSequence((self.seed, *place)).generate_state(1, np.uint64)[0])
        self.generator.manual_seed(start)
        for position, index in islice(enumerate(self.sampler), skipped, None):
            yield SeededIndex(index, (start + position) % 2**63)


class SeededFetching:
    """Mix-in for a data set: what a loader asks for by `SeededIndex` comes out of that seed.

    shard: (r, n): of each batch only the images of number r, r + n, ... are prepared, or the
        first one if there are none; see `dassl.data.sharding`.
    """

    shard = (0, 1)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        rank, world_size = self.shard
        part = indices[rank::world_size] or indices[:1]
        return [self._fetch(index) for index in part]

    def _fetch(self, index: int) -> Any:
        if not isinstance(index, SeededIndex):
            return self[index]  # type: ignore[index]
        with generators_at(index.seed):
            return self[index]  # type: ignore[index]


@contextmanager
def generators_at(seed: int) -> Iterator[None]:
    """Set Python's, numpy's and torch's CPU generators to `seed`; put them back at the end."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the GPUs too
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@contextmanager
def generator_put_back() -> Iterator[None]:
    """Let what is drawn within from torch's global generator leave it where it was."""
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)


def draw_seed() -> int:
    """Draw a loader's seed from torch's global generator."""
    return int(torch.randint(2**62, (1,)))


def set_loader_epoch(loader: DataLoader[Any] | None, epoch: int) -> None:
    """Tell a loader of `build_data_loader` which epoch begins; others need not know."""
    if (sampler := _sampler(loader)) is not None:
        sampler.set_epoch(epoch)


def loader_seed(loader: DataLoader[Any] | None) -> int | None:
    """Return the seed of a loader of `build_data_loader`, None for others."""
    sampler = _sampler(loader)
    return None if sampler is None else sampler.seed


def set_loader_seed(loader: DataLoader[Any] | None, seed: int | None) -> None:
    """Give a loader the seed that `loader_seed` returned: that of a run that was not seeded."""
    if (sampler := _sampler(loader)) is not None and seed is not None:
        sampler.seed = seed


def batches_from(loader: DataLoader[Any], start: int) -> Iterator[Any]:
    """Return the batches of a pass but the first `start`.

    Loaders of `build_data_loader` do not load what is left out. Others do.
    """
    sampler = _sampler(loader)
    if sampler is not None and loader.batch_size:
        sampler.skip(start * loader.batch_size)
        start = 0
    batches = iter(loader)
    for _ in range(start):
        next(batches, None)
    return batches


def _sampler(loader: DataLoader[Any] | None) -> SeededSampler | None:
    sampler = getattr(loader, "sampler", None)
    return sampler if isinstance(sampler, SeededSampler) else None
