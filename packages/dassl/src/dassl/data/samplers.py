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
    "RandomDomainSampler",
    "RandomSampler",
    "Sampler",
    "SeqDomainSampler",
    "SequentialSampler",
    "build_sampler",
]

AVAI_SAMPLERS = [
    "RandomSampler",
    "SequentialSampler",
    "RandomDomainSampler",
    "SeqDomainSampler",
    "RandomClassSampler",
]


class _GroupSampler(Sampler[int]):
    """Batches of `n_per_group` random images from each of `groups_per_batch` groups.

    The groups with most images left come first, equals in random order: so an epoch uses as
    many images as it can, and every epoch has the same length, which schedules rely on. It ends
    when too few groups have `n_per_group` images left.
    """

    def __init__(
        self,
        groups: dict[int, list[int]],
        groups_per_batch: int,
        n_per_group: int,
        generator: torch.Generator | None,
    ) -> None:
        self.groups = groups
        self.groups_per_batch = groups_per_batch
        self.n_per_group = n_per_group
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        left = {key: self._chunks(indices) for key, indices in self.groups.items()}
        for _ in range(self._num_batches()):
            for key in self._order(left)[: self.groups_per_batch]:
                yield from left[key].pop()

    def __len__(self) -> int:
        return self._num_batches() * self.groups_per_batch * self.n_per_group

    def _order(self, left: dict[int, list[list[int]]]) -> list[int]:
        """Order the groups, given the chunks left of each."""
        order = self._pick(list(left), len(left))
        return sorted(order, key=lambda key: len(left[key]), reverse=True)

    def _num_batches(self) -> int:
        """Return the largest B for which groups of B chunks at most fill B batches."""
        chunks = [max(len(group) // self.n_per_group, 1) for group in self.groups.values()]
        batches = sum(chunks) // self.groups_per_batch
        while sum(min(count, batches) for count in chunks) < batches * self.groups_per_batch:
            batches -= 1
        return batches

    def _chunks(self, indices: list[int]) -> list[list[int]]:
        """Shuffle into chunks of `n_per_group`; a smaller group gives one, with repetitions."""
        n = self.n_per_group
        if len(indices) < n:
            picks = torch.randint(len(indices), (n,), generator=self.generator).tolist()
            return [[indices[pick] for pick in picks]]
        shuffled = self._pick(indices, len(indices))
        return [shuffled[start : start + n] for start in range(0, len(indices) - n + 1, n)]

    def _pick(self, items: Sequence[Any], count: int) -> list[Any]:
        order = torch.randperm(len(items), generator=self.generator)[:count]
        return [items[place] for place in order.tolist()]


class RandomDomainSampler(_GroupSampler):
    """Batches from `n_domain` domains (below 1: all) with equally many images of each."""

    def __init__(
        self,
        data_source: Sequence[Datum],
        batch_size: int,
        n_domain: int,
        generator: torch.Generator | None = None,
    ) -> None:
        """
        Raises:
            ValueError: there are fewer domains, or they do not divide the batch.
        """
        groups = _group_by(data_source, "domain")
        n_domain = n_domain if n_domain > 0 else len(groups)
        if n_domain > len(groups) or batch_size % n_domain:
            raise ValueError(
                f"N_DOMAIN is {n_domain}: it must divide the batch size {batch_size} and be at "
                f"most the number of domains, {len(groups)}"
            )
        super().__init__(groups, n_domain, batch_size // n_domain, generator)


class SeqDomainSampler(RandomDomainSampler):
    """Batches with equally many images of every domain, the domains in the order of numbers."""

    def __init__(
        self,
        data_source: Sequence[Datum],
        batch_size: int,
        generator: torch.Generator | None = None,
    ) -> None:
        """
        Raises:
            ValueError: the domains do not divide the batch.
        """
        super().__init__(data_source, batch_size, 0, generator)

    def _order(self, left: dict[int, list[list[int]]]) -> list[int]:
        return sorted(left)


class RandomClassSampler(_GroupSampler):
    """Batches with `n_ins` images of each of `batch_size // n_ins` classes."""

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
        groups = _group_by(data_source, "label")
        if n_ins < 1 or not 1 <= batch_size // n_ins <= len(groups):
            raise ValueError(
                f"N_INS is {n_ins} and the batch size {batch_size}: a batch holds batch size // "
                f"N_INS classes, which must be 1 to {len(groups)}"
            )
        super().__init__(groups, batch_size // n_ins, n_ins, generator)


def _group_by(data_source: Sequence[Datum], attribute: str) -> dict[int, list[int]]:
    """Sort the indices of images by one of their attributes."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index, item in enumerate(data_source):
        groups[getattr(item, attribute)].append(index)
    return dict(groups)


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
        cfg: not used; part of the signature that plugins call.
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
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(source, batch_size, n_domain, generator)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(source, batch_size, generator)
    return RandomClassSampler(source, batch_size, n_ins, generator)
