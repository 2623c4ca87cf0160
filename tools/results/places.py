"""What the place of a run's folder says about it.

This project's layout, which the public code of MMRL shares:

    .../base2new/{train_base,test_new}/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>
    .../cross_dataset/{train_source,test_target}/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>
    .../few_shot/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>

and the older ones of CoOp-style code, where `/...` are folders for further settings:

    .../evaluation/<Trainer>/<cfg>_<S>shots[/...]/<dataset>/seed<N>     tests on other data sets
    .../<dataset>/<Trainer>/<cfg>_<S>shots[/...]/seed<N>                all classes of a data set
"""

import os
import re
from pathlib import Path
from typing import Any

SPLITS = {
    "train_base": "base2new",
    "test_new": "base2new",
    "train_source": "cross_dataset",
    "test_target": "cross_dataset",
}

_SEED = re.compile(r"seed(0|[1-9][0-9]{0,17})")
_SHOTS = re.compile(r"shots_(-?[0-9]{1,18})")
_CFG_SHOTS = re.compile(r"(.+)_([0-9]{1,18})shots?")
_DEEPEST = 4  # folders below <cfg>_<S>shots


def is_seed(name: str) -> bool:
    """Whether a folder of this name is a run: seed<N>."""
    return _SEED.fullmatch(name) is not None


def natural_key(text: object) -> list[tuple[int, int, str]]:
    """Sorts seed10 behind seed9."""
    parts = re.split(r"([0-9]{1,18})", str(text))
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]


def place_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Protocol, tree, split, dataset, shots, trainer, cfg and seed, as far as the path tells.

    Links keep their names. Only seed<N> folders have a place; others give an empty dict.
    """
    full = os.path.abspath(path)
    *above, last = full.split(os.sep)
    match = _SEED.fullmatch(last)
    if not match:
        return {}
    return {"seed": int(match[1])} | (_by_protocol(above) or _by_shots(above) or {})


def _by_protocol(parts: list[str]) -> dict[str, Any] | None:
    *_, split, dataset, shots, trainer, cfg = ("", "", "", "", *parts)
    protocol = "few_shot" if split == "few_shot" else SPLITS.get(split)
    match = _SHOTS.fullmatch(shots)
    if not (protocol and match):
        return None
    return {
        "protocol": protocol,
        "split": split if split in SPLITS else None,
        "dataset": dataset,
        "shots": int(match[1]),
        "trainer": trainer,
        "cfg": cfg,
        "tree": _folder(parts[: -5 if split in SPLITS else -4]),
    }


def _by_shots(parts: list[str]) -> dict[str, Any] | None:
    for depth in range(1, min(_DEEPEST, len(parts) - 3) + 1):
        if match := _CFG_SHOTS.fullmatch(parts[-depth]):
            break
    else:
        return None
    at = len(parts) - depth
    trainer, rest = parts[at - 1], parts[at + 1 :]
    tested = parts[at - 2] == "evaluation"
    if tested and not rest:
        return None
    dataset = rest.pop() if tested else parts[at - 2]
    return {
        "protocol": "cross_dataset" if tested else "few_shot",
        "split": "test_target" if tested else None,
        "dataset": dataset,
        "shots": int(match[2]),
        "trainer": trainer,
        "cfg": "/".join([match[1], *rest]),
        "tree": _folder(parts[: at - 1 if tested else at - 2]),
    }


def _folder(parts: list[str]) -> Path:
    return Path(os.sep.join(parts) or os.sep)
