"""A method's settings: each key once, with its default, what it may be and what it means.

A method has a frozen dataclass of them. From it come the config node, the check of its values, the
keys that a checkpoint must agree with, and `docs/settings.md`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from keyword import iskeyword
from typing import Any, ClassVar, NamedTuple, Self

from yacs.config import CfgNode

from dassl.utils import get_most_similar_str_to_a_from_b
from frozen_clip import FrozenCLIP

# What a value may be


class Allowed(NamedTuple):
    """What a value may be, in words and as a test; `names` are there to suggest one of."""

    words: str
    test: Callable[[Any], bool]
    names: tuple[str, ...] = ()


def whole(low: int, high: int) -> Allowed:
    return Allowed(f"a whole number from {low} to {high:,}", lambda v: is_whole(v, low, high))


def number(low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> Allowed:
    """A finite number from `low` (not `low` itself if `open_low`) to `high`."""
    words = "a finite number"
    if low > -math.inf:
        words = f"a number {'above' if open_low else 'from'} {low:g}"
        words += f" to {high:g}" if high < math.inf else ", not infinite"
    return Allowed(
        words, lambda v: _is_number(v) and low <= v <= high and not (open_low and v == low)
    )


def one_of(names: Iterable[str]) -> Allowed:
    names = tuple(names)
    return Allowed(f"one of {', '.join(names)}", lambda v: v in names, names)


def several(item: Allowed, count: int | None = None, least: int = 0) -> Allowed:
    """A list of `count` such values, or of `least` or more."""
    words = f"a list of {'' if count is None else count} such values: {item.words}"
    return Allowed(
        " ".join(words.split()),
        lambda v: (len(v) == count if count else len(v) >= least) and all(map(item.test, v)),
        item.names,
    )


def any_value(words: str) -> Allowed:
    """Any value of the key's type: what `words` say is checked where CLIP or more is known."""
    return Allowed(words, lambda v: True)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def check_value(key: str, value: Any, allowed: Allowed, why: str) -> None:
    """ValueError for a value that is not allowed: what is, why, and the name that is near."""
    if allowed.test(value):
        return
    words = value if isinstance(value, list | tuple) else [value]
    wrong = next((str(w) for w in words if allowed.names and w not in allowed.names), "")
    near = get_most_similar_str_to_a_from_b(wrong, allowed.names) if wrong else ""
    hint = f" (do you mean {near!r}?)" if near else ""
    raise ValueError(f"{key} is {value!r:.200}; allowed is {allowed.words} ({why}){hint}")


# Keys

PRECISIONS = ("fp32", "amp", "fp16")
SHARE, WEIGHT = number(0, 1), number(0, 1e6)
WORDS = any_value("a text")
YES_NO = any_value("True or False")


class Key(NamedTuple):
    """A key of a config node; `fixed`: a checkpoint must have been trained with the same value."""

    name: str
    default: Any
    allowed: Allowed
    meaning: str
    fixed: bool


def key(default: Any, allowed: Allowed, meaning: str, fixed: bool = False) -> Any:
    """A field of `MethodSettings` that is a config key, by its name in capitals; the field of
    LAMBDA is `lambda_`, since Python keeps the word."""
    return field(default=default, metadata={"key": (allowed, meaning, fixed)})


def precision(default: str) -> Any:
    """The key PREC."""
    meaning = "amp: autocast; fp16: amp, and frozen weights in half precision"
    return key(default, one_of(PRECISIONS), meaning)


@dataclass(frozen=True)
class MethodSettings:
    """What all methods share. ValueError for values that are not allowed.

    node: the config node that they are from, for messages
    dataset: the dataset, for methods that have templates of their own for some; empty where
        DATASET.TEMPLATE says the template
    """

    own_templates: ClassVar[Mapping[str, str]] = {}  # by dataset: the method's, where it has others

    node: str = field(default="", kw_only=True)
    dataset: str = field(default="", kw_only=True)
    prec: str = precision("fp16")

    def __post_init__(self) -> None:
        for each in self.config_keys():
            value = getattr(self, _field(each.name))
            check_value(self.key(each.name), value, each.allowed, each.meaning)

    @classmethod
    def config_keys(cls) -> list[Key]:
        own = (f for f in fields(cls) if "key" in f.metadata)
        return [Key(f.name.rstrip("_").upper(), f.default, *f.metadata["key"]) for f in own]

    @classmethod
    def config_node(cls) -> CfgNode:
        """The keys with their defaults."""
        return CfgNode({each.name: _unfrozen(each.default) for each in cls.config_keys()})

    @classmethod
    def of(cls, cfg: CfgNode, node: str) -> Self:
        """The settings in `TRAINER.<node>`."""
        lacking = [each.name for each in cls.config_keys() if each.name not in cfg.TRAINER[node]]
        if lacking:
            raise ValueError(
                f"TRAINER.{node} has no key {', '.join(lacking)}: give the trainer of "
                f"{cls.__name__} a `node` of its own"
            )
        values = {
            _field(each.name): _frozen(cfg.TRAINER[node][each.name]) for each in cls.config_keys()
        }
        source = cfg.get("DATASET", {})
        dataset = "" if source.get("TEMPLATE") else source.get("NAME", "")
        return cls(**values, node=node, dataset=dataset)

    def key(self, name: str) -> str:
        """A key's full name."""
        return f"TRAINER.{self.node}.{name}" if self.node else name

    @property
    def template(self) -> str | None:
        """The prompt's template, where it is part of the settings; None: that of the dataset."""
        return None

    @property
    def needs_template(self) -> bool:
        """Whether the dataset's template is used."""
        return self.template is None

    def template_for(self, template: str) -> str:
        """The sentence around class names: `template`, which is the dataset's, or the method's."""
        return self.own_templates.get(self.dataset, template)

    def step_budget(self, shots: int) -> int:
        """How many steps training takes with `shots` images per class; 0: OPTIM.MAX_EPOCH."""
        return 0

    @property
    def per_class(self) -> bool:
        """Whether something is learned for each class by itself."""
        return False

    def check(self, clip: FrozenCLIP) -> None:
        """ValueError where the settings do not fit this CLIP."""


def _field(key: str) -> str:
    name = key.lower()
    return f"{name}_" if iskeyword(name) else name


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _unfrozen(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
