"""What the path of a run's directory says about the run.

This project's layout, which the public code of MMRL shares:

    .../base2new/{train_base,test_new}/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>
    .../cross_dataset/{train_source,test_target}/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>
    .../few_shot/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>

and those of other CoOp-style code, where `/...` are directories for further settings:

    .../evaluation/<Trainer>/<cfg>_<S>shots[/...]/<dataset>/seed<N>     tests on other datasets
    .../<dataset>/<Trainer>/<cfg>_<S>shots[/...]/seed<N>                all classes of a dataset
    .../{train_base,test_new}/...: dataset, shots, trainer and cfg in another order or form

A directory is recognized by its name where it can be: `shots_16`, a known dataset or trainer, or
those that the run's own config names. A path that says two things, or contradicts the config, has
no protocol.
"""

import csv
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

HALVES = {"base": "train_base", "new": "test_new"}
SPLITS = {
    "train_base": "base2new",
    "test_new": "base2new",
    "train_source": "cross_dataset",
    "test_target": "cross_dataset",
}
PUBLISHED = Path(__file__).with_name("published.csv")

_SEED = re.compile(r"seed(0|[1-9][0-9]{0,17})")
_SHOTS = re.compile(r"(?:shots_(-?[0-9]{1,18})(?:_(.+))?|([0-9]{1,18})_?shots?)")
_CFG_SHOTS = re.compile(r"(.+)_([0-9]{1,18})shots?")
_OTHER_SPLIT = re.compile(r"(?:train|test|eval|val)_(?:base|new|novel|all|source|target)")
_OWN = "ImageFolder"  # the dataset of anyone's own images
_DEEPEST = 4  # directories below <cfg>_<S>shots
_DATASETS = {"describabletextures": "dtd"}
_METHODS = {
    "zeroshotclip": "CLIP",
    "mmrlplus": "MMRL++",
    "mmrlpp": "MMRL++",
    "multimodaladapter": "MMA",
    "twostage": "2SFS",
    "lpplusplus": "LP++",
}

Told = Mapping[str, Any]  # dataset, trainer, shots, classes as the run's own files name them


def is_seed(name: str) -> bool:
    """Whether a directory of this name is a run: seed<N>."""
    return _SEED.fullmatch(name) is not None


def natural_key(text: object) -> list[tuple[int, int, str]]:
    """Sorts seed10 behind seed9."""
    parts = re.split(r"([0-9]{1,18})", str(text))
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]


def dataset_of(name: str | None) -> str | None:
    """`dtd` for `dtd`, `DescribableTextures`, `describable_textures`; None if it is not known."""
    return _known_names()[0].get(_plain(name))


def method_of(name: str | None) -> str | None:
    """`MMRL++` for `MMRL++`, `MMRLPlus`, `MMRLpp`; None if it is not known."""
    return _known_names()[1].get(_plain(name))


def same(one: str | None, other: str | None) -> bool:
    """Whether two names differ at most in capitals and punctuation."""
    return bool(one) and _plain(one) == _plain(other)


def _plain(name: str | None) -> str:
    return "".join(c for c in (name or "").lower() if c.isalnum() or c == "+")


@cache
def _known_names() -> tuple[dict[str, str], dict[str, str]]:
    """Published datasets and methods, by plain name."""
    with open(PUBLISHED, encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    datasets = {_plain(name): name for name in header[5:-1]}
    methods = {_plain(name): name for name in (row[0].partition("(")[0] for row in rows)}
    return _DATASETS | datasets, _METHODS | methods


def parse_run_path(path: str | os.PathLike[str], told: Told | None = None) -> dict[str, Any]:
    """Protocol, tree, split, dataset, shots, trainer, cfg and seed, as far as the path tells.

    `astray` instead of a protocol: why a path that looks like one of a protocol is none. Links
    keep their names. Only seed<N> directories are parsed; others give an empty dict.
    """
    *above, last = os.path.abspath(path).split(os.sep)
    match = _SEED.fullmatch(last)
    if not match:
        return {}
    seed = {"seed": int(match[1])}
    try:
        return seed | _parse(above, told or {})
    except ValueError as error:
        return seed | {"astray": str(error)}


def _parse(parts: list[str], told: Told) -> dict[str, Any]:
    """Empty outside of every protocol. ValueError: see `astray`."""
    found = _protocol(parts)
    if found is None:
        return {}
    protocol, split, at = found
    rest = parts[at + (split in SPLITS and parts[at] == split) :]
    first = -1 if parts[at - 1] == "evaluation" else 0  # where the dataset usually is
    usual = rest[first] if rest else None
    surely = usual if len(rest) > 1 and _SHOTS.fullmatch(rest[1]) else None
    shots, cfg, trainer = _take_shots(rest, told)
    dataset = _dataset(rest, told, usual, surely)
    rest.remove(dataset)
    trainer = _trainer(rest, told, trainer)
    if trainer in rest:
        rest.remove(trainer)
    tree = Path(os.sep.join(parts[:at]) or os.sep)
    place: dict[str, Any] = {"protocol": protocol, "split": split, "tree": tree, "dataset": dataset}
    place |= {"shots": shots, "trainer": trainer, "cfg": "/".join([*cfg, *rest])}
    _check(place, told)
    return place


def _protocol(parts: list[str]) -> tuple[str, str | None, int] | None:
    """Protocol, split, and how many of the parts are the tree."""
    for at in range(len(parts) - 1, 0, -1):
        name, below = parts[at], parts[at + 1 :]
        if name in SPLITS:
            return SPLITS[name], name, at
        if _OTHER_SPLIT.fullmatch(name) and len(below) <= _DEEPEST + 1:
            raise ValueError(f"'{name}' is none of {', '.join(SPLITS)}")
        if name == "evaluation" and any(map(_CFG_SHOTS.fullmatch, below[:2])):
            return "cross_dataset", "test_target", at + 1
        if name == "few_shot" and any(
            _SHOTS.fullmatch(part) or _CFG_SHOTS.fullmatch(part) for part in below[:3]
        ):
            return "few_shot", None, at + 1
    for at in range(len(parts) - 1, max(2, len(parts) - 1 - _DEEPEST), -1):
        if _CFG_SHOTS.fullmatch(parts[at]):
            return "few_shot", None, at - 2
    return None


def _take_shots(rest: list[str], told: Told) -> tuple[int, list[str], str | None]:
    """Number of shots, the cfg beside it, and what in the usual order is the trainer."""
    found = [part for part in rest if _SHOTS.fullmatch(part)]
    found = found or [part for part in rest if _CFG_SHOTS.fullmatch(part)]
    if len(found) > 1:
        raise ValueError(f"{' and '.join(found)} both say a number of shots")
    if not found:
        if (told.get("shots") or 0) < 1:
            raise ValueError("neither a directory nor a config says the number of shots")
        return told["shots"], [], None
    at = rest.index(found[0])
    rest.remove(found[0])
    if match := _SHOTS.fullmatch(found[0]):
        after = rest[at] if at < len(rest) else None
        return int(match[1] or match[3]), [match[2]] if match[2] else [], after
    match = _CFG_SHOTS.fullmatch(found[0])
    assert match
    return int(match[2]), [match[1]], rest[at - 1] if at else None


def _dataset(rest: list[str], told: Told, usual: str | None, surely: str | None) -> str:
    if usual not in rest or method_of(usual) or same(usual, told.get("trainer")):
        usual = None
    if usual and surely:
        return usual
    return _choose(rest, "dataset", dataset_of, told, usual)


def _trainer(rest: list[str], told: Told, usual: str | None) -> str:
    known = told.get("trainer")
    if known and len(rest) < 2 and not any(method_of(part) or same(part, known) for part in rest):
        return known
    return _choose(rest, "trainer", method_of, told, usual)


def _choose(
    rest: Sequence[str],
    role: str,
    known: Callable[[str | None], str | None],
    told: Told,
    usual: str | None,
) -> str:
    """The one part with a name of this role, or else the usual one. ValueError if unclear."""
    name = told.get(role)
    options = [p for p in rest if same(p, name) or (known(name) and known(p) == known(name))]
    options = options or [part for part in rest if known(part)]
    if len(set(options)) == 1:
        return options[0]
    if usual and usual in rest and (not options or usual in options):
        return usual
    raise ValueError(f"it is not clear which of {', '.join(rest) or 'no directory'} is the {role}")


def _check(place: dict[str, Any], told: Told) -> None:
    """ValueError where the path says another thing than the run's own files."""
    classes = {split: half for half, split in HALVES.items()}.get(place["split"] or "", "all")
    own = _OWN if same(told.get("dataset"), _OWN) else None
    pairs = {
        "classes": (told.get("classes"), classes),
        "dataset": (dataset_of(told.get("dataset")) or own, dataset_of(place["dataset"])),
        "trainer": (method_of(told.get("trainer")), method_of(place["trainer"])),
        "shots": (max(told.get("shots") or 0, 0), place["shots"]),  # -1, 0: all that there are
    }
    for name, (said, there) in pairs.items():
        if said and there and said != there:
            raise ValueError(f"its config says {name} {said}, the directory {there}")
