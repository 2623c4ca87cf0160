"""Checkpoints of the published code: the names that it gives to what is learned.

Its files hold the whole of CLIP beside it, and what can be computed again. Only what a method's
key map names is read; the same map writes them. The maps are data: `published/<Trainer>.yaml`
beside the trainer's file, explained in `trainers/published/MMRL.yaml`.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.safe_yaml import read_yaml
from dassl.engine import TRAINER_REGISTRY

State = dict[str, Tensor]
Starts = Mapping[str, int]  # the number of the first layer, by the key that says it
CLASSNAMES = "classnames"  # in learners that are bound to them (`training.class_bound`)
CLIP = "CLIP"  # in place of a key: the backbone sets the length of an axis
CLASSES = "CLASSES"  # likewise: the number of classes does


class PublishedTensor(NamedTuple):
    """Where a learner's tensor is in a published checkpoint: see the YAML files."""

    name: str
    axes: tuple[str, ...] = ()
    first: str = ""
    start: int | str = 0  # a number, or the key that says it
    narrows: int = 0

    def names(self, starts: Starts) -> Iterator[str]:
        """The one name, or those of layer after layer without end."""
        start = self.start if isinstance(self.start, int) else starts.get(self.start, 0)
        if self.first:
            yield self.first
        yield from map(self.name.format, count(start)) if self.stacked else (self.name,)

    def layers(self, names: Iterable[str]) -> list[int]:
        """The numbers of the layers that have a name among these."""
        pattern = re.escape(self.name).replace(r"\{\}", r"(\d{1,4})")
        return [int(match[1]) for name in names if (match := re.fullmatch(pattern, name))]

    @property
    def stacked(self) -> bool:
        return "{}" in self.name

    def found_in(self, whole: State, starts: Starts) -> list[str]:
        """Its names in a state; none where `narrows` says that they are of another learner."""
        names = list(takewhile(whole.__contains__, self.names(starts)))
        return names if all(self._fits(whole[name]) for name in names) else []

    def _fits(self, tensor: Tensor) -> bool:
        rows, *columns = tensor.shape or (0,)
        return not self.narrows or [rows] == [length // self.narrows for length in columns]


@dataclass(frozen=True)
class KeyMap:
    """A learner's tensors, by the names used here, and where a published checkpoint has them.

    Where the learner, too, has a tensor of its own for each layer, all names used here have a {}
    for its number, and may be of as many layers as there are, or of none: see `numbered`.

    root: the part of the published model that is saved alone; its files leave out this
        beginning of all names
    without: what a file must not have, since more would have been learned then
    """

    tensors: dict[str, PublishedTensor] = field(default_factory=dict)
    root: str = ""
    without: tuple[PublishedTensor, ...] = ()

    def numbered(self, state: State) -> "KeyMap":
        """The map with the numbers that a state has in place of {} in the names used here."""
        if not all("{}" in name for name in self.tensors):
            return self
        there, tensors = self._whole(state).keys(), {}
        for ours, theirs in self.tensors.items():
            pairs = ((ours.format(number), theirs.name.format(number)) for number in count())
            for name, tensor in takewhile(there.__and__, pairs):
                tensors[name] = theirs._replace(name=tensor)
        return replace(self, tensors=tensors)

    def found_in(self, state: State) -> set[str]:
        """The published names that are read; none unless every tensor of the learner is there."""
        whole, starts = self._whole(state), self.starts_in(state)
        if any(next(tensor.names(starts)) in whole for tensor in self.without):
            return set()
        found = [tensor.found_in(whole, starts) for tensor in self.tensors.values()]
        return {name for names in found for name in names} if all(found) else set()

    @property
    def start_keys(self) -> set[str]:
        """The keys that say the first layer; the tensors under our names do not."""
        return {t.start for t in self.tensors.values() if isinstance(t.start, str)}

    def starts_in(self, state: State) -> dict[str, int]:
        """What these keys were, as far as a published checkpoint says: the lowest layer there."""
        whole = self._whole(state)
        found = {
            key: [n for t in self.tensors.values() if t.start == key for n in t.layers(whole)]
            for key in self.start_keys
        }
        return {key: min(layers) for key, layers in found.items() if layers}

    def is_ours(self, state: State) -> bool:
        """Whether these are the learner's tensors under the names used here."""
        return without_module(state).keys() - {CLASSNAMES} == self.tensors.keys() - {CLASSNAMES}

    def from_published(self, state: State) -> State:
        """The learner's tensors in a published checkpoint, under the names used here."""
        whole, starts, ours = self._whole(state), self.starts_in(state), {}
        for name, tensor in self.tensors.items():
            layers = [whole[key] for key in tensor.found_in(whole, starts)]
            ours[name] = torch.stack(layers) if tensor.stacked else layers[0]
        return ours

    def to_published(self, state: State, starts: Starts | None = None) -> State:
        """The inverse: what the published code reads as its own.

        `starts` says where the layers start: the settings of the run, or `starts_in` of the file
        that the state is from. ValueError where a key is needed and not there.
        """
        published: State = {}
        starts = starts or {}
        if lacking := self.start_keys - starts.keys():
            raise ValueError(f"the first layer of these tensors is not known: {min(lacking)}")
        for name, tensor in self.tensors.items():
            layers = list(state[name]) if tensor.stacked else [state[name]]
            names = islice(tensor.names(starts), len(layers))
            published |= zip((key.removeprefix(self.root) for key in names), layers, strict=True)
        return published

    def own_names(self, state: State) -> State:
        """A checkpoint's tensors under the names used here, whichever it has."""
        return self.from_published(state) if self.found_in(state) else without_module(state)

    def _whole(self, state: State) -> State:
        """The state as if the whole published model had been saved."""
        plain = without_module(state)
        return {self.root + key.removeprefix(self.root): value for key, value in plain.items()}


class Published(NamedTuple):
    """What a trainer's YAML file says.

    maps: of the whole learner, and of those that lack an optional tensor, or several at once
    directory: that of the published code's checkpoints, where it is another
    file: the name of the published code's only file, where it keeps no epochs: its tensors are
        nested under 'weights', and 'metadata' are settings by the names of that code
    metadata: for each of these the key here
    """

    maps: tuple[KeyMap, ...] = (KeyMap(),)
    directory: str = ""
    file: str = ""
    metadata: Mapping[str, str] = {}

    def own_names(self, state: State) -> State:
        """A checkpoint's tensors under the names used here, whichever it has."""
        return self.map_of(state).own_names(state)

    def starts_in(self, state: State) -> dict[str, int]:
        """The settings that a published checkpoint says by the numbers of its layers."""
        return self.map_of(state).starts_in(state)

    def map_of(self, state: State) -> KeyMap:
        """The map of the learner that a checkpoint holds; the first if it holds none."""
        maps = (each.numbered(state) for each in self.maps)
        fits = (each for each in maps if each.found_in(state) or each.is_ours(state))
        return next(fits, self.maps[0])

    def trained_with(self, metadata: Mapping[str, Any], node: str) -> dict[str, Any]:
        """The config that a published file's metadata are of, as far as they tell it."""
        told = {key: metadata.get(name) for name, key in self.metadata.items()}
        keys = {key: v for key, v in told.items() if isinstance(v, str | int | float | list)}
        return {"TRAINER": {node: keys}} if keys else {}


def published(trainer: type) -> Published:
    """What is known of the checkpoints of a trainer's published code, or of its parent's."""
    for cls in trainer.__mro__:
        if not hasattr(cls, "Method"):  # the engine's, or a mixin
            continue
        try:
            source = inspect.getfile(cls)
        except (TypeError, OSError):  # made in a notebook
            continue
        file = Path(source).parent / "published" / f"{cls.__name__}.yaml"
        if file.is_file():
            return _read(file)
    return Published()


@cache
def _read(file: Path) -> Published:
    tree = read_yaml(file)
    tensors = {
        name: PublishedTensor(**{**entry, "axes": tuple(entry["axes"])})
        for name, entry in tree["tensors"].items()
    }
    never = tuple(map(PublishedTensor, tree.get("never", ())))
    maps = [KeyMap(tensors, tree.get("root", ""), never)]
    for each in tree.get("optional", ()):
        absent = each if isinstance(each, list) else [each]
        some = {name: tensor for name, tensor in tensors.items() if name not in absent}
        maps.append(KeyMap(some, maps[0].root, (*never, *(tensors[name] for name in absent))))
    rest = {name: tree[name] for name in ("directory", "file", "metadata") if name in tree}
    return Published(tuple(maps), **rest)


def state_in(content: Any) -> Any:
    """What should be the tensors in the content of a checkpoint; None if it has none."""
    if not isinstance(content, dict):
        return None
    if "state_dict" not in content and isinstance(weights := content.get("weights"), dict):
        return joined(weights)
    return content.get("state_dict")


def joined(tree: dict[str, Any], depth: int = 2) -> dict[str, Any]:
    """Names of a tree joined by dots, at most `depth` of them."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and depth:
            flat |= {f"{key}.{name}": each for name, each in joined(value, depth - 1).items()}
        else:
            flat[key] = value
    return flat


def nested(state: State) -> dict[str, Any]:
    """The inverse of `joined`."""
    tree: dict[str, Any] = {}
    for name, tensor in state.items():
        *path, last = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = tensor
    return tree


def without_module(state: State) -> State:
    """Names without the 'module.' of wrappers for several GPUs, which may stand before any part."""
    return {re.sub(r"(^|\.)module\.", r"\1", key): value for key, value in state.items()}


def trainers_of(state: State) -> list[str]:
    """The registered trainers whose learner a checkpoint holds, published or ours.

    One that would read only part of what another reads is not meant.
    """
    read = {}
    for name in sorted(TRAINER_REGISTRY.registered_names()):
        own = published(TRAINER_REGISTRY.get(name)).map_of(state)
        if own.tensors:
            read[name] = own.found_in(state) or (set(own.tensors) if own.is_ours(state) else set())
    return [
        name for name, own in read.items() if own and not any(own < more for more in read.values())
    ]
