"""Which settings differ between runs that a table compares."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from common.safe_yaml import read_yaml
from run.flat import EARLIER, INCIDENTAL, flatten
from tools.results import Run
from tools.results.layout import natural_key

PLANNED = INCIDENTAL | {  # and the axes of the tables themselves
    *("SEED", "TRAINER.NAME", "DATASET.NAME", "DATASET.PATH"),
    *("DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES", "TASK"),
}
AXES: dict[str, Callable[[Run], object]] = {
    "data set": lambda run: run.dataset,
    "shots": lambda run: run.shots,
    "part": lambda run: run.split,
}
Settings = Mapping[str, str]


def read_settings(run: Path) -> Settings:
    """The flat keys of a run's `config.yaml`, without those that are planned to differ.

    Raises OSError or ValueError when it cannot be read.
    """
    file = run / "config.yaml"
    try:
        tree = read_yaml(file)
    except ValueError as error:  # in a line, without the file, which the reader of this adds
        raise ValueError(" ".join(str(error).removeprefix(f"{file} ").split())) from error
    if not tree:
        raise ValueError("holds no settings")
    found = EARLIER | dict(flatten(tree))
    return {key: _text(value) for key, value in found.items() if key not in PLANNED}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    return "(none)" if value in ("", None) else str(value)


def differing(
    runs: Iterable[tuple[Run, Settings]], method: Callable[[Run], str]
) -> dict[str, dict[str, str]]:
    """{key: {method: value}} for every setting that is not the same in all `runs`.

    A key that a single method has, such as one of its own, counts only when its value varies
    there. Where it varies within a method, the text says along what.
    """
    by_key: dict[str, dict[str, list[tuple[Run, str]]]] = {}
    for run, settings in runs:
        for key, value in settings.items():
            by_key.setdefault(key, {}).setdefault(method(run), []).append((run, value))
    return {
        key: {name: along(pairs) for name, pairs in methods.items()}
        for key, methods in sorted(by_key.items())
        if len({value for pairs in methods.values() for _, value in pairs}) > 1
    }


def along(pairs: list[tuple[Run, str]]) -> str:
    """`0.5`; `0.5 (caltech101, dtd), 4 (eurosat)`; or values with their numbers of runs."""
    values = sorted({value for _, value in pairs}, key=natural_key)
    if len(values) == 1:
        return values[0]
    for axis in AXES.values():
        places: dict[object, set[str]] = {}
        for run, value in pairs:
            places.setdefault(axis(run), set()).add(value)
        if all(len(found) == 1 for found in places.values()):
            where = {v: [str(p) for p, found in places.items() if v in found] for v in values}
            return ", ".join(f"{value} ({', '.join(where[value])})" for value in values)
    counts = {value: sum(other == value for _, other in pairs) for value in values}
    return ", ".join(f"{value} ({count} runs)" for value, count in counts.items())


def uneven(
    runs: Iterable[tuple[Run, Settings]], group: Callable[[Run], tuple]
) -> dict[tuple, list[str]]:
    """{group: keys} where runs that should differ in nothing but the seed do."""
    seen: dict[tuple, dict[str, set[str]]] = {}
    for run, settings in runs:
        keys = seen.setdefault(group(run), {})
        for key, value in settings.items():
            keys.setdefault(key, set()).add(value)
    found = {
        place: [key for key, values in keys.items() if len(values) > 1]
        for place, keys in seen.items()
    }
    return {place: keys for place, keys in found.items() if keys}
