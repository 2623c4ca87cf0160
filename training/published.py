"""Public checkpoints: the names that a method's published code gives to what is learned.

Their files hold the whole of CLIP beside it, and what can be computed again. Only what a
method's table names is read; the same table writes them.
"""

import re
from collections.abc import Iterator
from itertools import count, islice, takewhile
from typing import NamedTuple

import torch
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY

State = dict[str, Tensor]


class PublicTensor(NamedTuple):
    """Where a learner's tensor is in a public checkpoint.

    name: its name; with {}, one name for each layer, and the tensor is the stack of them
    axes: for each axis the key of the config node that sets its length, '' where CLIP does
    first: the name of the first layer, where that is another
    start: what stands for {} in the layer after that, or in the first
    """

    name: str
    axes: tuple[str, ...]
    first: str = ""
    start: int = 0

    def names(self) -> Iterator[str]:
        """The one name, or those of layer after layer without end."""
        if self.first:
            yield self.first
        yield from map(self.name.format, count(self.start)) if self.stacked else (self.name,)

    @property
    def stacked(self) -> bool:
        return "{}" in self.name


class PublicNames:
    """A learner's tensors, by the names used here, and where a public checkpoint has them.

    root: the part of the public model that is saved alone; its files leave out this beginning
        of all names
    without: what a file must not have, since more would have been learned then
    """

    def __init__(
        self,
        tensors: dict[str, PublicTensor],
        root: str = "",
        without: tuple[PublicTensor, ...] = (),
    ):
        self.tensors = tensors
        self.root = root
        self.without = without

    def found_in(self, state: State) -> set[str]:
        """The public names that are read; none unless every tensor of the learner is there."""
        whole = self._whole(state)
        if any(next(tensor.names()) in whole for tensor in self.without):
            return set()
        found = [list(takewhile(whole.__contains__, t.names())) for t in self.tensors.values()]
        return {name for names in found for name in names} if all(found) else set()

    def from_public(self, state: State) -> State:
        """The learner's tensors in a public checkpoint, under the names used here."""
        whole, ours = self._whole(state), {}
        for name, tensor in self.tensors.items():
            layers = [whole[key] for key in takewhile(whole.__contains__, tensor.names())]
            ours[name] = torch.stack(layers) if tensor.stacked else layers[0]
        return ours

    def to_public(self, state: State) -> State:
        """The inverse: what the published code reads as its own."""
        public = {}
        for name, tensor in self.tensors.items():
            layers = state[name] if tensor.stacked else [state[name]]
            names = (key.removeprefix(self.root) for key in islice(tensor.names(), len(layers)))
            public |= zip(names, layers, strict=True)
        return public

    def own_names(self, state: State) -> State:
        """A checkpoint's tensors under the names used here, whichever it has."""
        return self.from_public(state) if self.found_in(state) else without_module(state)

    def _whole(self, state: State) -> State:
        """The state as if the whole public model had been saved."""
        plain = without_module(state)
        return {self.root + key.removeprefix(self.root): value for key, value in plain.items()}


def without_module(state: State) -> State:
    """Names without the 'module.' of wrappers for several GPUs, which may stand before any part."""
    return {re.sub(r"(^|\.)module\.", r"\1", key): value for key, value in state.items()}


def public_names(trainer: type, state: State) -> PublicNames:
    """Those of a trainer's `PublicNames` whose learner a checkpoint holds; the first if none's."""
    for public in (trainer.public, *trainer.public_variants):
        if public.found_in(state) or without_module(state).keys() == public.tensors.keys():
            return public
    return trainer.public


def trainers_of(state: State) -> list[str]:
    """The registered trainers whose learner a checkpoint holds, public or ours.

    One that would read only part of what another reads is not meant.
    """
    read = {}
    for name in sorted(TRAINER_REGISTRY.registered_names()):
        trainer = TRAINER_REGISTRY.get(name)
        public = public_names(trainer, state) if hasattr(trainer, "public_variants") else None
        if public is not None and public.tensors:
            is_ours = without_module(state).keys() == public.tensors.keys()
            read[name] = public.found_in(state) or (set(public.tensors) if is_ours else set())
    return [
        name for name, own in read.items() if own and not any(own < more for more in read.values())
    ]
