"""What the place of a run's directory says about it.

This project's layout, which the public code of MMRL shares:

    .../base2new/{train_base,test_new}/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>
    .../cross_dataset/{train_source,test_target}/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>
    .../few_shot/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>

and those of other CoOp-style code, where `/...` are directories for further settings:

    .../evaluation/<Trainer>/<cfg>_<S>shots[/...]/<dataset>/seed<N>     tests on other datasets
    .../<dataset>/<Trainer>/<cfg>_<S>shots[/...]/seed<N>                all classes of a dataset
    .../{train_base,test_new}/...: dataset, shots, trainer and cfg in another order or form

What a directory is follows from its name where it can: `shots_16`, a known dataset or trainer, or
those that the run's own config names. A place that says two things, or another than the config,
is none.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.results.names import dataset_of, method_of, same

SPLITS = {
    "train_base": "base2new",
    "test_new": "base2new",
    "train_source": "cross_dataset",
    "test_target": "cross_dataset",
}
CLASSES = {"train_base": "base", "test_new": "new"}

_SEED = re.compile(r"seed(0|[1-9][0-9]{0,17})")
_SHOTS = re.compile(r"(?:shots_(-?[0-9]{1,18})(?:_(.+))?|([0-9]{1,18})_?shots?)")
_CFG_SHOTS = re.compile(r"(.+)_([0-9]{1,18})shots?")
_OTHER_SPLIT = re.compile(r"(?:train|test|eval|val)_(?:base|new|novel|all|source|target)")
_OWN = "ImageFolder"  # the dataset of anyone's own images
_DEEPEST = 4  # directories below <cfg>_<S>shots

Said = Mapping[str, Any]  # dataset, trainer, shots, classes as the run's own files name them


def is_seed(name: str) -> bool:
    """Whether a directory of this name is a run: seed<N>."""
    return _SEED.fullmatch(name) is not None


def natural_key(text: object) -> list[tuple[int, int, str]]:
    """Sorts seed10 behind seed9."""
    parts = re.split(r"([0-9]{1,18})", str(text))
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]


def place_of(path: str | os.PathLike[str], said: Said | None = None) -> dict[str, Any]:
    """Protocol, tree, split, dataset, shots, trainer, cfg and seed, as far as the path tells.

    `astray` instead of a protocol: why a place that looks like one of a protocol is none. Links
    keep their names. Only seed<N> directories have a place; others give an empty dict.
    """
    *above, last = os.path.abspath(path).split(os.sep)
    match = _SEED.fullmatch(last)
    if not match:
        return {}
    seed = {"seed": int(match[1])}
    try:
        return seed | _placed(above, said or {})
    except ValueError as error:
        return seed | {"astray": str(error)}


def _placed(parts: list[str], said: Said) -> dict[str, Any]:
    """Empty outside of every protocol. ValueError: see `astray`."""
    frame = _frame(parts)
    if frame is None:
        return {}
    protocol, split, at = frame
    inner = parts[at + (split in SPLITS and parts[at] == split) :]
    place = {"protocol": protocol, "split": split, "tree": Path(os.sep.join(parts[:at]) or os.sep)}
    place |= _roles(inner, said, -1 if parts[at - 1] == "evaluation" else 0)
    _check(place, said)
    return place


def _frame(parts: list[str]) -> tuple[str, str | None, int] | None:
    """Protocol, split, and how many of the parts are the tree."""
    for at in range(len(parts) - 1, 0, -1):
        name, below = parts[at], parts[at + 1 :]
        if name in SPLITS:
            return SPLITS[name], name, at
        if _OTHER_SPLIT.fullmatch(name) and len(below) <= _DEEPEST + 1:
            raise ValueError(f"'{name}' is none of {', '.join(SPLITS)}")
        if name == "evaluation" and any(map(_CFG_SHOTS.fullmatch, below[:2])):
            return "cross_dataset", "test_target", at + 1
        if name == "few_shot" and any(map(_says_shots, below[:3])):
            return "few_shot", None, at + 1
    for at in range(len(parts) - 1, max(2, len(parts) - 1 - _DEEPEST), -1):
        if _CFG_SHOTS.fullmatch(parts[at]):
            return "few_shot", None, at - 2
    return None


def _says_shots(name: str) -> re.Match[str] | None:
    return _SHOTS.fullmatch(name) or _CFG_SHOTS.fullmatch(name)


def _roles(inner: Sequence[str], said: Said, first: int) -> dict[str, Any]:
    """Dataset (usually `first`), shots, trainer and cfg among the directories above the seed."""
    rest = list(inner)
    shots, cfg, trainer = _take_shots(rest, said)
    found = _dataset(inner, rest, said, first)
    rest.remove(found)
    trainer = _trainer(rest, said, trainer)
    if trainer in rest:
        rest.remove(trainer)
    return {"dataset": found, "shots": shots, "trainer": trainer, "cfg": "/".join([*cfg, *rest])}


def _take_shots(rest: list[str], said: Said) -> tuple[int, list[str], str | None]:
    """The number of shots, the cfg beside it, and what in the usual order is the trainer."""
    found = [part for part in rest if _SHOTS.fullmatch(part)]
    found = found or [part for part in rest if _CFG_SHOTS.fullmatch(part)]
    if len(found) > 1:
        raise ValueError(f"{' and '.join(found)} both say a number of shots")
    if not found:
        if (said.get("shots") or 0) < 1:
            raise ValueError("neither a directory nor a config says the number of shots")
        return said["shots"], [], None
    at = rest.index(found[0])
    rest.remove(found[0])
    if match := _SHOTS.fullmatch(found[0]):
        after = rest[at] if at < len(rest) else None
        return int(match[1] or match[3]), [match[2]] if match[2] else [], after
    match = _CFG_SHOTS.fullmatch(found[0])
    return int(match[2]), [match[1]], rest[at - 1] if at else None


def _dataset(inner: Sequence[str], rest: list[str], said: Said, first: int) -> str:
    usual = inner[first] if inner and inner[first] in rest else None
    if usual and (method_of(usual) or same(usual, said.get("trainer"))):
        usual = None
    if usual and len(inner) > 1 and _SHOTS.fullmatch(inner[1]):
        return usual
    return _chosen(rest, "dataset", dataset_of, said, usual)


def _trainer(rest: list[str], said: Said, usual: str | None) -> str:
    known = said.get("trainer")
    if known and len(rest) < 2 and not any(method_of(part) or same(part, known) for part in rest):
        return known
    return _chosen(rest, "trainer", method_of, said, usual)


def _chosen(
    rest: list[str],
    role: str,
    known: Callable[[str | None], str | None],
    said: Said,
    usual: str | None,
) -> str:
    """The one part with a name of this role, or else the usual one. ValueError if unclear."""
    told = said.get(role)
    options = [
        part for part in rest if same(part, told) or (known(told) and known(part) == known(told))
    ]
    options = options or [part for part in rest if known(part)]
    if len(set(options)) == 1:
        return options[0]
    if usual in rest and (not options or usual in options):
        return usual
    raise ValueError(f"it is not clear which of {', '.join(rest) or 'no directory'} is the {role}")


def _check(place: dict[str, Any], said: Said) -> None:
    """ValueError where the place says another thing than the run's own files."""
    classes = CLASSES.get(place["split"] or "", "all")
    own = _OWN if same(said.get("dataset"), _OWN) else None
    pairs = {
        "classes": (said.get("classes"), classes),
        "dataset": (dataset_of(said.get("dataset")) or own, dataset_of(place["dataset"])),
        "trainer": (method_of(said.get("trainer")), method_of(place["trainer"])),
        "shots": (max(said.get("shots") or 0, 0), place["shots"]),  # -1, 0: all that there are
    }
    for name, (told, there) in pairs.items():
        if told and there and told != there:
            raise ValueError(f"its config says {name} {told}, the directory {there}")
