"""Finds run directories and reads what each of them has to say.

A run directory holds `results.json` (all digits) and `log.txt`, with `log.txt-<time>` beside it
when it was started again. Where it lies says what it is: see places.py.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.safe_yaml import read_yaml
from run.flat import flatten
from run.reader import read_record
from tools.results.heads import Head, read_head, setting_text
from tools.results.logs import LogResult, read_log
from tools.results.places import is_seed, natural_key, place_of

STATES = ("complete", "unfinished", "missing", "unreadable")
HALVES = {"train_base": "base", "test_new": "new"}

_LOG = re.compile(r"log\.txt(-[0-9][0-9_T:.-]*)?")  # not log.txt-old and other copies made by hand
_EXACT = 2  # decimals of what is shown
_WHOLE = re.compile(r"-?[0-9]{1,9}")
RECORD = "results.json"


@dataclass(frozen=True)
class Run:
    """One run directory; what neither its path nor its files tell is None."""

    path: Path
    state: str  # one of STATES; missing: an empty seed<N>; unreadable: a result not to be trusted
    reason: str | None = None  # why the run is not complete
    metrics: dict[str, float] = field(default_factory=dict)  # percent by name; complete runs only
    record: dict[str, Any] = field(default_factory=dict)  # results.json as it is, whatever it holds
    source: Path | None = None  # the file `metrics` were read from
    notes: tuple[str, ...] = ()  # files and blocks that were not believed
    protocol: str | None = None  # base2new, few_shot or cross_dataset; None: outside every tree
    split: str | None = None  # train_base, test_new, train_source or test_target
    dataset: str | None = None
    shots: int | None = None
    trainer: str | None = None
    cfg: str | None = None  # the variant of the trainer's settings
    seed: int | None = None
    backbone: str | None = None
    load_epoch: int | None = None  # the epoch that --load-epoch asked for
    tested_on: str | None = None  # test or val
    tree: Path | None = None  # the folder that holds the splits, or the data sets of few_shot
    classes: str | None = None  # all, base or new, as the run's own config says
    own_seed: int | None = None  # the seed that its config says; None: any
    settings: Mapping[str, str] = field(default_factory=dict)  # the config as flat keys
    astray: str | None = None  # why a place that looks like one of a protocol is none

    @property
    def half(self) -> str | None:
        """base or new, for runs of base2new."""
        return HALVES.get(self.split or "")

    @property
    def complete(self) -> bool:
        return self.state == "complete"


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether the folder holds a log or a results file."""
    return _is_run(os.listdir(path))


def read_run(path: str | os.PathLike[str], test_log: bool = False) -> Run:
    """Reads one run directory: results.json if it is sound, else the newest finished log.

    `test_log` as in `read_log`. Damaged files are no error: see `state`, `reason` and `notes`.
    """
    try:
        names = os.listdir(path)
    except OSError as error:
        return _unlisted(Path(path), error)
    return _read(Path(path), names, test_log)


def find_runs(root: str | os.PathLike[str], test_log: bool = False) -> list[Run]:
    """All runs at or below `root`, in natural order of their paths; linked folders are followed.

    A folder called seed<N> is a run even when it is empty, and one that cannot be listed is an
    unreadable run. Raises OSError when `root` itself cannot be listed.
    """
    refused: list[Run] = []

    def refuse(path: str, error: OSError) -> None:
        if path == os.fspath(root):
            raise error
        refused.append(_unlisted(Path(path), error))

    runs = [
        _read(Path(path), names, test_log)
        for path, names in _walk(os.fspath(root), refuse)
        if is_seed(os.path.basename(os.path.abspath(path))) or _is_run(names)
    ]
    return sorted(runs + refused, key=lambda run: natural_key(run.path))


def _walk(root: str, refuse: Callable[[str, OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """(folder, names in it) of all folders; what lies inside of a seed<N> is not entered.

    Every folder is listed once, and only links are resolved: trees hold many thousand folders.
    """
    todo, seen = [(root, os.path.realpath(root))], set()
    while todo:
        path, real = todo.pop()
        if real in seen:  # links that lead in a circle
            continue
        seen.add(real)
        try:
            with os.scandir(path) as entries:
                found = list(entries)
        except OSError as error:
            refuse(path, error)
            continue
        yield path, [entry.name for entry in found]
        if is_seed(os.path.basename(path)):
            continue
        for entry in found:
            if _is_folder(entry) and not entry.name.startswith("."):
                linked = entry.is_symlink()
                inside = os.path.realpath(entry.path) if linked else f"{real}{os.sep}{entry.name}"
                todo.append((entry.path, inside))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _unlisted(path: Path, error: OSError) -> Run:
    reason = f"the folder cannot be listed: {error.strerror}"
    return Run(path, "unreadable", reason, **place_of(path))


def _is_run(names: list[str]) -> bool:
    return RECORD in names or any(_LOG.fullmatch(name) for name in names)


def _read(path: Path, names: list[str], test_log: bool) -> Run:
    notes: list[str] = []
    logs = [path / name for name in sorted(filter(_LOG.fullmatch, names), key=natural_key)]
    if RECORD in names:
        try:
            record, metrics = read_record(path / RECORD)
        except (OSError, ValueError) as error:
            notes.append(f"{RECORD} is not used: {error}")
        else:
            return _from_record(path, record, metrics, logs[-1:])
    if not logs and not notes:
        return Run(path, "missing", f"no log.txt and no {RECORD}", **place_of(path))
    log, result = _newest_result(logs, test_log, notes)
    state, reason = result.state, result.reason
    if RECORD in names and not result.metrics:
        state, reason = "unreadable", f"{notes.pop(0)}; {reason}"
    source = log if result.metrics else None
    told = _told(path, {}, read_head(log) if log else Head({}))
    place = _place(path, told, "log.txt", notes)
    return Run(path, state, reason, result.metrics, {}, source, tuple(notes), **place)


def _from_record(
    path: Path, record: dict[str, Any], metrics: dict[str, float], logs: list[Path]
) -> Run:
    """The run that a sound results.json describes; its newest log adds what older ones lack."""
    needed = "settings" not in record or "load_epoch" not in record
    head = read_head(logs[0]) if logs and needed else Head({})
    if record.get("eval_only") is not True:  # the argument had no effect
        head = head._replace(load_epoch=None)
    notes: list[str] = []
    place = _place(path, _told(path, record, head), RECORD, notes)
    return Run(
        path,
        "complete" if metrics else "unfinished",
        None if metrics else f"{RECORD} says that the run is not complete",
        metrics,
        record,
        path / RECORD if metrics else None,
        tuple(notes),
        **place,
        tested_on=_said(record, "split", str),
    )


def _told(path: Path, record: dict[str, Any], head: Head) -> dict[str, Any]:
    """What a run's own files say of it: results.json, and where that is silent the log's config."""
    given = _said(record, "settings", dict)
    settings = head.settings if given is None else {k: setting_text(v) for k, v in given.items()}
    settings = settings or _config(path)
    return {
        "dataset": _said(record, "dataset", str) or settings.get("DATASET.NAME"),
        "trainer": _said(record, "trainer", str) or settings.get("TRAINER.NAME"),
        "shots": _first(_said(record, "shots", int), settings.get("DATASET.NUM_SHOTS")),
        "own_seed": _seed(_first(_said(record, "seed", int), settings.get("SEED"))),
        "classes": _said(record, "classes", str) or settings.get("DATASET.SUBSAMPLE_CLASSES"),
        "backbone": _said(record, "backbone", str) or settings.get("MODEL.BACKBONE.NAME"),
        "load_epoch": _first(_said(record, "load_epoch", int), head.load_epoch),
        "settings": settings,
    }


def _config(path: Path) -> dict[str, str]:
    """The settings in `config.yaml`, if it is sound."""
    try:
        return {key: setting_text(value) for key, value in flatten(read_yaml(path / "config.yaml"))}
    except (OSError, ValueError):
        return {}


def _place(path: Path, told: dict[str, Any], source: str, notes: list[str]) -> dict[str, Any]:
    """What a run is: its place, and what that does not say as told. Appends to `notes`."""
    place = place_of(path, told)
    own = told["own_seed"]
    if own is not None and place.get("seed", own) != own:
        notes.append(f"{source} says seed {own}, the folder {place['seed']}")
    return {"seed": own} | told | place


def _first(*values: int | str | None) -> int | None:
    """The first one that is a whole number."""
    for value in values:
        if type(value) is int or (type(value) is str and _WHOLE.fullmatch(value)):
            return int(value)
    return None


def _seed(value: int | None) -> int | None:
    return None if value is None or value < 0 else value  # -1: another one in every run


def _said(record: dict[str, Any], name: str, kind: type) -> Any:
    value = record.get(name)
    return value if type(value) is kind else None


def _newest_result(
    logs: list[Path], test_log: bool, notes: list[str]
) -> tuple[Path | None, LogResult]:
    """The newest log with a result, or the newest log and why it has none; appends to `notes`.

    `logs`: oldest first, log.txt and then by the time in the name, which survives copying.
    """
    newest: tuple[Path, LogResult] | None = None
    for log in reversed(logs):
        try:
            result = read_log(log, test_log)
        except OSError as error:
            result = LogResult({}, "unreadable", f"{log.name} cannot be read: {error.strerror}")
        notes.extend(f"{log.name}: result block ignored: {why}" for why in result.ignored)
        if result.decimals is not None and result.decimals < _EXACT:
            notes.append(f"{log.name} has no counts: accuracy is as printed, not to two decimals")
        if result.metrics:
            if newest:
                notes.append(f"{newest[0].name} is newer and has no result")
            return log, result
        newest = newest or (log, result)
    return newest or (None, LogResult({}, "unfinished", "no log.txt"))
