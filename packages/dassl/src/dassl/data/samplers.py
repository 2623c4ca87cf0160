"""The order in which images are loaded. All randomness comes from a torch generator."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from yacs.config import CfgNode

from dassl.utils import check_availability

from .datasets import Datum

__all__ = [
    "RandomClassSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "build_sampler",
]

AVAI_SAMPLERS = [
    "RandomSampler",
    "SequentialSampler",
    "RandomClassSampler",
]


class RandomClassSampler(Sampler[int]):
    """Batches with `n_ins` random images of each of `batch_size // n_ins` classes.

    The classes with most images left come first, equals in random order: so an epoch uses as
    many images as it can, and every epoch has the same length, which schedules rely on. It ends
    when too few classes have `n_ins` images left.
    """

    def __init__(
        self,
        data_source: Sequence[Datum],
        batch_size: int,
        n_ins: int,
        generator: torch.Generator | None = None,
    ) -> None:
        """
        Raises:
            ValueError: a batch would need no class, or more than there are.
        """
        self.groups: defaultdict[int, list[int]] = defaultdict(list)
        for index, item in enumerate(data_source):
            self.groups[item.label].append(index)
        if n_ins < 1 or not 1 <= batch_size // n_ins <= len(self.groups):
            raise ValueError(
                f"N_INS is {n_ins} and the batch size {batch_size}: a batch holds batch size // "
                f"N_INS classes, which must be 1 to {len(self.groups)}"
            )
        self.classes_per_batch = batch_size // n_ins
        self.n_ins = n_ins
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        left = {key: self._chunks(indices) for key, indices in self.groups.items()}
        for _ in range(self._num_batches()):
            order = self._shuffled(list(left))
            order.sort(key=lambda key: len(left[key]), reverse=True)
            for key in order[: self.classes_per_batch]:
                yield from left[key].pop()

    def __len__(self) -> int:
        return self._num_batches() * self.classes_per_batch * self.n_ins

    def _num_batches(self) -> int:
        """Return the largest B for which classes of B chunks at most fill B batches."""
        chunks = [max(len(group) // self.n_ins, 1) for group in self.groups.values()]
        batches = sum(chunks) // self.classes_per_batch
        while sum(min(count, batches) for count in chunks) < batches * self.classes_per_batch:
            batches -= 1
        return batches

    def _chunks(self, indices: list[int]) -> list[list[int]]:
        """Shuffle into chunks of `n_ins`; a smaller class gives one, with repetitions."""
        n = self.n_ins
        if len(indices) < n:
            picks = torch.randint(len(indices), (n,), generator=self.generator).tolist()
            return [[indices[pick] for pick in picks]]
        shuffled = self._shuffled(indices)
        return [shuffled[start : start + n] for start in range(0, len(indices) - n + 1, n)]

    def _shuffled(self, items: Sequence[Any]) -> list[Any]:
        order = torch.randperm(len(items), generator=self.generator)
        return [items[place] for place in order.tolist()]


def build_sampler(
    sampler_type: str,
    cfg: CfgNode | None = None,
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
    generator: torch.Generator | None = None,
) -> Sampler[int]:
    """Build a sampler over `data_source`.

    Args:
        cfg, n_domain: not used; part of the signature that plugins call.
        generator: where it draws from; by default torch's global one.

    Raises:
        ValueError: an unknown sampler, or numbers that do not fit the data.
    """
    check_availability(sampler_type, AVAI_SAMPLERS, what="sampler (DATALOADER.*.SAMPLER)")
    source = data_source if data_source is not None else []
    if sampler_type == "SequentialSampler":
        return SequentialSampler(source)
    if sampler_type == "RandomSampler":
        return RandomSampler(source, generator=generator)
    return RandomClassSampler(source, batch_size, n_ins, generator)
