"""Finds run directories and reads what each of them has to say.

A run directory holds `results.json` (all digits) and `log.txt`, with `log.txt-<time>` beside it
when it was started again. Where it lies says what it is:

    .../base2new/{train_base,test_new}/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>
    .../cross_dataset/{train_source,test_target}/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>
    .../few_shot/<dataset>/shots_<S>/<Trainer>/<cfg>/seed<N>
"""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.results.logs import LogResult, exact_metrics, read_log

SPLITS = {
    "train_base": "base2new",
    "test_new": "base2new",
    "train_source": "cross_dataset",
    "test_target": "cross_dataset",
}

_SEED = re.compile(r"seed(0|[1-9][0-9]{0,17})")
_SHOTS = re.compile(r"shots_(-?[0-9]{1,18})")
_LOG = re.compile(r"log\.txt(-[0-9][0-9_T:.-]*)?")  # not log.txt-old and other copies made by hand
_LARGEST_JSON = 1 << 20


@dataclass(frozen=True)
class Run:
    """One run directory; what its path does not tell is None."""

    path: Path
    metrics: dict[str, float] | None = None  # percent, by name; None: see `unfinished`
    source: Path | None = None  # the file `metrics` were read from
    unfinished: str | None = None  # why there is no result
    notes: tuple[str, ...] = ()  # files and blocks that were not believed
    protocol: str | None = None  # base2new, few_shot or cross_dataset
    split: str | None = None  # train_base, test_new, train_source or test_target
    dataset: str | None = None
    shots: int | None = None
    trainer: str | None = None
    cfg: str | None = None
    seed: int | None = None
    tree: Path | None = None  # the folder that holds the splits, or the data sets of few_shot


def natural_key(text: object) -> list[tuple[int, int, str]]:
    """Sorts seed10 behind seed9."""
    parts = re.split(r"([0-9]{1,18})", str(text))
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]


def is_run(path: Path) -> bool:
    """Whether the folder holds a log or a results file."""
    return os.path.isfile(path / "results.json") or bool(_logs(path))


def is_seed(path: Path) -> bool:
    """Whether the folder is called seed<N>."""
    return _SEED.fullmatch(path.name) is not None and path.is_dir()


def read_run(path: str | os.PathLike[str], test_log: bool = False) -> Run:
    """Reads one run directory: results.json if it is sound, else the newest finished log.

    `test_log` as in `read_log`. Damaged files are no error: they are noted, and a run without a
    result says in `unfinished` why.
    """
    path = Path(path)
    place = _place(path)
    notes: list[str] = []
    results = path / "results.json"
    if os.path.isfile(results):
        try:
            metrics = _read_json(results)
        except (OSError, ValueError, OverflowError, RecursionError) as error:
            notes.append(f"results.json is not used: {error}")
        else:
            unfinished = None if metrics else "results.json says that the run is not complete"
            return Run(path, metrics, results, unfinished, **place)
    log, result = _newest_result(path, test_log, notes)
    return Run(path, result.metrics, log, result.unfinished, tuple(notes), **place)


def find_runs(root: str | os.PathLike[str], test_log: bool = False) -> list[Run]:
    """All runs at or below `root`, in natural order of their paths; linked folders are followed.

    A folder called seed<N> is a run even when it is empty. Raises OSError for a folder that cannot
    be listed.
    """
    found, seen = [], set()
    for folder, names, _ in os.walk(root, onerror=_refuse, followlinks=True):
        path, real = Path(folder), os.path.realpath(folder)
        if real in seen:  # links that lead in a circle
            names.clear()
            continue
        seen.add(real)
        names[:] = [name for name in names if not name.startswith(".")]
        if is_seed(path) or is_run(path):
            found.append(path)
        if is_seed(path):
            names.clear()
    return [read_run(path, test_log) for path in sorted(found, key=natural_key)]


def _refuse(error: OSError) -> None:
    raise error


def _place(path: Path) -> dict[str, Any]:
    """The fields of `Run` that the path gives."""
    full = Path(os.path.abspath(path))  # links keep their names, unlike with resolve()
    *_, split, dataset, shots, trainer, cfg, seed = ("", "", "", "", "", "", *full.parts)
    protocol = "few_shot" if split == "few_shot" else SPLITS.get(split)
    seed_match, shots_match = _SEED.fullmatch(seed), _SHOTS.fullmatch(shots)
    number = {"seed": int(seed_match[1])} if seed_match else {}
    if not (protocol and seed_match and shots_match):
        return number
    return number | {
        "protocol": protocol,
        "split": split if split in SPLITS else None,
        "dataset": dataset,
        "shots": int(shots_match[1]),
        "trainer": trainer,
        "cfg": cfg,
        "tree": full.parents[5 if split in SPLITS else 4],
    }


def _read_json(path: Path) -> dict[str, float] | None:
    """Metrics of a results file, None when it says that the run is not complete.

    Raises ValueError when it is damaged, lacks something, or contradicts itself.
    """
    with open(path, "rb") as file:
        content = file.read(_LARGEST_JSON + 1)
    if len(content) > _LARGEST_JSON:
        raise ValueError("it is larger than any results file")
    results = json.loads(content)
    if not isinstance(results, dict):
        raise ValueError("it does not hold an object")
    if results.get("complete") is False:
        return None
    if results.get("complete") is not True:
        raise ValueError("it does not say 'complete': true")
    counts = [_get(results, name, int) for name in ("total", "correct")]
    percents = [_get(results, name, float, int) for name in ("accuracy", "error_rate", "macro_f1")]
    return exact_metrics(*counts, *percents, tolerance=0.005)


def _get(results: dict[str, Any], name: str, *kinds: type) -> Any:
    value = results.get(name)
    if type(value) not in kinds or not math.isfinite(value):  # type(): True is no number
        raise ValueError(f"it has no usable '{name}'")
    return value


def _logs(path: Path) -> list[Path]:
    """Logs, oldest first: log.txt, then by the time in the name, which survives copying."""
    names = (name for name in os.listdir(path) if _LOG.fullmatch(name))
    return [path / name for name in sorted(names, key=natural_key) if os.path.isfile(path / name)]


def _newest_result(path: Path, test_log: bool, notes: list[str]) -> tuple[Path | None, LogResult]:
    """The newest log with a result, or the newest log and why it has none; appends to `notes`."""
    newest: tuple[Path | None, LogResult] | None = None
    try:
        for log in reversed(_logs(path)):
            result = read_log(log, test_log)
            notes.extend(f"{log.name}: result block ignored: {why}" for why in result.ignored)
            if result.metrics:
                if newest:
                    notes.append(f"{newest[0].name} is newer and has no result")
                return log, result
            newest = newest or (log, result)
    except OSError as error:
        return None, LogResult(None, f"cannot be read: {error}")
    return newest or (None, LogResult(None, "no log.txt and no results.json"))
