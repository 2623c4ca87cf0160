"""Learners with something for each class of training: they keep the names, and find it by them.

A checkpoint of such a learner answers for classes that it was trained on, in any order, and for no
others. The names are a tensor of it, so that every format of a checkpoint holds them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from training.checks import nothing_to_say
from training.method import Method
from training.published import CLASSNAMES, State


def encode(names: Sequence[str]) -> Tensor:
    """Class names as bytes of JSON, uint8."""
    return torch.tensor(list(json.dumps(list(names)).encode()), dtype=torch.uint8)


def decode(encoded: Tensor, path: Path) -> list[str]:
    """The inverse of `encode`; ValueError for what is no list of names."""
    try:
        names = json.loads(bytes(encoded.to(torch.uint8).tolist()).decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its class names cannot be read ({error})") from error
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{path} is damaged: what it has for class names is no list of texts")
    return names


def places(wanted: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """For each wanted name its place among the known ones, None where it is not there.

    ValueError for a wanted name that stands there twice, unless the lists are equal.
    """
    if list(wanted) == list(known):
        return list(range(len(known)))
    twice = [name for name in wanted if known.count(name) > 1]
    if twice:
        raise ValueError(
            f"several of the classes of training are called {twice[0]!r}, and this list of classes "
            "is another one: which of them is meant cannot be told. Test on the list of training"
        )
    place = {name: number for number, name in enumerate(known)}
    return [place.get(name) for name in wanted]


class ClassLearner(nn.Module):
    """A learner that keeps the names of its classes."""

    def __init__(self, classnames: Sequence[str]):
        super().__init__()
        self.register_buffer(CLASSNAMES, encode(classnames))


class ClassBoundMethod(Method):
    """A method that answers for the classes of training alone.

    `by_class` names the learner's tensors that have a row for each class.
    """

    by_class: ClassVar[tuple[str, ...]] = ()

    def of_checkpoint(self, state: State, path: Path) -> State:
        """The tensors with the rows of this method's classes, found by name.

        ValueError where a class is not among those of training. A published file has no names: it
        is taken to have the classes of this run, in their order.
        """
        own = self.learner.state_dict()[CLASSNAMES]
        if CLASSNAMES not in state:
            print(f"{path} has no class names: its rows are taken for this run's classes, in order")
            return {**state, CLASSNAMES: own}
        known = decode(state[CLASSNAMES], path)
        found = places(self.classnames, known)
        if None in found:
            missing = self.classnames[found.index(None)]
            which = f"{len(known)} classes ({', '.join(known[:3])}, ...)"
            name = type(self).__name__.removesuffix("Method")
            raise ValueError(f"{path} knows no class {missing!r}: {nothing_to_say(name, which)}")
        for name in self.by_class:
            if name in state and (state[name].dim() < 1 or len(state[name]) != len(known)):
                raise ValueError(
                    f"{path} is damaged: it has {len(known)} class names, and {name} of shape "
                    f"{tuple(state[name].shape)}. Get the file again, or train again"
                )
        rows = torch.tensor(found)
        return {**self.rows_of(state, rows), CLASSNAMES: own}

    def rows_of(self, state: State, rows: Tensor) -> State:
        """The tensors for the classes at the places `rows` (C) of the checkpoint's."""
        return {key: t[rows] if key in self.by_class else t for key, t in state.items()}
