"""Orders of loading."""

from collections import Counter

import pytest
import torch

from dassl.data.datasets import Datum
from dassl.data.samplers import (
    RandomClassSampler,
    RandomSampler,
    SequentialSampler,
    build_sampler,
)


def source(**counts):
    """Items by 'd<domain>l<label>' = how many."""
    return [
        Datum("x", domain=int(key[1]), label=int(key[3]))
        for key, count in counts.items()
        for _ in range(count)
    ]


def test_plain_samplers():
    data = source(d0l0=10)
    assert list(build_sampler("SequentialSampler", data_source=data)) == list(range(10))
    sampler = build_sampler("RandomSampler", data_source=data)
    assert isinstance(sampler, RandomSampler) and sorted(sampler) == list(range(10))
    assert isinstance(build_sampler("SequentialSampler", data_source=data), SequentialSampler)
    with pytest.raises(ValueError, match="do you mean 'RandomSampler'"):
        build_sampler("RandmSampler", data_source=data)


def batches_of(sampler, size):
    order = list(sampler)
    assert len(order) == len(sampler)  # schedules rely on it
    return [order[start : start + size] for start in range(0, len(order), size)]


@pytest.mark.parametrize("seed", range(5))
def test_class_sampler(seed):
    data = source(d0l0=9, d0l1=5, d0l2=2, d0l3=1, d0l4=8)
    generator = torch.Generator().manual_seed(seed)
    sampler = build_sampler(
        "RandomClassSampler", data_source=data, batch_size=4, n_ins=2, generator=generator
    )
    assert isinstance(sampler, RandomClassSampler)
    batches = batches_of(sampler, 4)
    assert len(batches) == 6  # 4 + 2 + 1 + 1 + 4 pairs
    for batch in batches:
        assert sorted(Counter(data[i].label for i in batch).values()) == [2, 2]
    used = Counter(index for batch in batches for index in batch)
    assert {data[index].label for index, count in used.items() if count > 1} <= {3}


@pytest.mark.parametrize("seed", range(5))
def test_an_uneven_epoch_has_one_length(seed):
    data = source(d0l0=20, d0l1=2, d0l2=2)
    sampler = RandomClassSampler(data, 4, 2, torch.Generator().manual_seed(seed))
    assert len(batches_of(sampler, 4)) == 2


def test_every_pass_differs_and_a_seed_repeats_it():
    data = source(d0l0=20, d0l1=20)
    generator = torch.Generator()
    sampler = RandomClassSampler(data, 4, 2, generator)
    passes = []
    for seed in (0, 1, 0):
        generator.manual_seed(seed)
        passes.append(list(sampler))
    assert passes[0] == passes[2] != passes[1]


def test_numbers_that_do_not_fit():
    data = source(d0l0=4, d1l1=4)
    with pytest.raises(ValueError, match="N_INS is 2"):
        RandomClassSampler(data, 8, 2)
    with pytest.raises(ValueError, match="N_INS is 16"):
        RandomClassSampler(data, 8, 16)
