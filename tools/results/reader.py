"""Find run directories, and read each as one flat record.

A run directory holds `results.json` (all digits) and `log.txt`, with `log.txt-<time>` beside it
when it was started again. What its path says is in layout.py.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from common.safe_yaml import read_yaml
from run.flat import flatten
from run.reader import read_record
from tools.results.layout import HALVES, is_seed, natural_key, parse_run_path
from tools.results.logs import LogResult, read_log

RECORD = "results.json"
_LOG = re.compile(r"log\.txt(-[0-9][0-9_T:.-]*)?")  # not log.txt-old and other copies made by hand
_EXACT = 2  # decimals of what is shown
_WHOLE = re.compile(r"-?[0-9]{1,9}")
_HEAD = 1 << 15  # bytes at the start of a log with the arguments and the config
_LOAD_EPOCH = re.compile(r"^load_epoch: ([0-9]{1,9})\s*$", re.MULTILINE)
_ENTRY = re.compile(r"((?:  )*)([A-Za-z0-9_]+):(?: (.*)|)")


@dataclass(frozen=True)
class Run:
    """One run directory; what neither its path nor its files tell is None (fields typed Any)."""

    path: Path
    # complete; unfinished; missing: an empty seed<N>; or unreadable: a result not to be trusted
    state: str
    reason: str | None = None  # why the run is not complete
    metrics: dict[str, float] = field(default_factory=dict)  # percent by name; complete runs only
    record: dict[str, Any] = field(default_factory=dict)  # results.json as it is
    source: Any = None  # the file `metrics` were read from
    notes: tuple[str, ...] = ()  # files and blocks that do not count, and why
    protocol: Any = None  # base2new, few_shot or cross_dataset; None: outside every tree
    split: Any = None  # train_base, test_new, train_source or test_target
    dataset: Any = None
    shots: Any = None
    trainer: Any = None
    cfg: Any = None  # the variant of the trainer's settings
    seed: Any = None
    backbone: Any = None
    load_epoch: int | None = None  # the epoch that --load-epoch asked for
    tested_on: str | None = None  # test or val
    tree: Path | None = None  # the folder that holds the splits, or the datasets of few_shot
    classes: str | None = None  # all, base or new, as the run's own config says
    own_seed: int | None = None  # the seed that its config says; None: any
    settings: Mapping[str, str] = field(default_factory=dict)  # the config as flat keys
    astray: str | None = None  # why a path that looks like one of a protocol is none

    @property
    def half(self) -> str | None:
        """base or new, for runs of base2new."""
        return next((half for half, split in HALVES.items() if split == self.split), None)

    @property
    def complete(self) -> bool:
        return self.state == "complete"


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether the directory holds a log or a results file."""
    return _is_run(os.listdir(path))


def _is_run(names: Iterable[str]) -> bool:
    return any(name == RECORD or _LOG.fullmatch(name) for name in names)


def find_runs(root: str | os.PathLike[str], test_log: bool = False) -> list[Run]:
    """All runs at or below `root`, in natural order of paths; linked directories are followed.

    A directory called seed<N> is a run even when it is empty, what lies in it is not entered; one
    that cannot be listed is an unreadable run. Raises OSError when `root` cannot be listed.
    """
    runs: list[Run] = []

    def refuse(error: OSError) -> None:
        if error.filename == os.fspath(root):
            raise error
        runs.append(_unlisted(Path(error.filename), error))

    seen: set[str] = set()
    for path, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:  # links that lead in a circle
            folders.clear()
            continue
        seen.add(real)
        seed = is_seed(os.path.basename(os.path.abspath(path)))
        if seed or _is_run([*folders, *files]):
            runs.append(_read(Path(path), [*folders, *files], test_log))
        folders[:] = [] if seed else [name for name in folders if not name.startswith(".")]
    return sorted(runs, key=lambda run: natural_key(run.path))


def read_run(path: str | os.PathLike[str], test_log: bool = False) -> Run:
    """Read one run directory: results.json if it is sound, else the newest finished log.

    `test_log` as in `read_log`. Damaged files are no error: see `state`, `reason` and `notes`.
    """
    try:
        names = os.listdir(path)
    except OSError as error:
        return _unlisted(Path(path), error)
    return _read(Path(path), names, test_log)


def _unlisted(path: Path, error: OSError) -> Run:
    reason = f"the folder cannot be listed: {error.strerror}"
    return Run(path, "unreadable", reason, **parse_run_path(path))


def _read(path: Path, names: list[str], test_log: bool) -> Run:
    notes: list[str] = []
    logs = [path / name for name in sorted(filter(_LOG.fullmatch, names), key=natural_key)]
    if RECORD in names:
        try:
            record, metrics = read_record(path / RECORD)
        except (OSError, ValueError) as error:
            notes.append(f"{RECORD} is not used: {error}")
        else:
            return _from_record(path, record, metrics, logs)
    if not logs and not notes:
        return Run(path, "missing", f"no log.txt and no {RECORD}", **parse_run_path(path))
    log, result = _newest_result(logs, test_log, notes)
    state, reason = result.state, result.reason
    if RECORD in names and not result.metrics:
        state, reason = "unreadable", f"{notes.pop(0)}; {reason}"
    source = log if result.metrics else None
    told = _told(path, {}, read_head(log) if log else Head({}))
    about = _about(path, told, "log.txt", notes)
    return Run(path, state, reason, result.metrics, {}, source, tuple(notes), **about)


def _from_record(
    path: Path, record: dict[str, Any], metrics: dict[str, float], logs: list[Path]
) -> Run:
    """The run that a sound results.json describes; its newest log adds what older ones lack."""
    needed = "settings" not in record or "load_epoch" not in record
    head = read_head(logs[-1]) if logs and needed else Head({})
    if record.get("eval_only") is not True:  # the argument had no effect
        head = head._replace(load_epoch=None)
    notes: list[str] = []
    about = _about(path, _told(path, record, head), RECORD, notes)
    about["tested_on"] = _typed(record, "split", str)
    if not metrics:
        reason = f"{RECORD} says that the run is not complete"
        return Run(path, "unfinished", reason, {}, record, None, tuple(notes), **about)
    return Run(path, "complete", None, metrics, record, path / RECORD, tuple(notes), **about)


def _newest_result(
    logs: list[Path], test_log: bool, notes: list[str]
) -> tuple[Path | None, LogResult]:
    """The newest log with a result, or the newest log and why it has none; appends to `notes`.

    `logs`: oldest first, log.txt and then by the time in the name, which survives copying.
    """
    newest: tuple[Path | None, LogResult] = None, LogResult({}, "unfinished", "no log.txt")
    for log in reversed(logs):
        try:
            result = read_log(log, test_log)
        except OSError as error:
            result = LogResult({}, "unreadable", f"{log.name} cannot be read: {error.strerror}")
        notes.extend(f"{log.name}: result block ignored: {why}" for why in result.ignored)
        if result.decimals is not None and result.decimals < _EXACT:
            notes.append(f"{log.name} has no counts: accuracy is as printed, not to two decimals")
        if result.metrics:
            if newest[0]:
                notes.append(f"{newest[0].name} is newer and has no result")
            return log, result
        newest = newest if newest[0] else (log, result)
    return newest


def _about(path: Path, told: dict[str, Any], source: str, notes: list[str]) -> dict[str, Any]:
    """What a run is: what its path says, then what its files tell. Appends to `notes`."""
    place = parse_run_path(path, told)
    own = told["own_seed"]
    if own is not None and place.get("seed", own) != own:
        notes.append(f"{source} says seed {own}, the folder {place['seed']}")
    return {"seed": own} | told | place


def _told(path: Path, record: dict[str, Any], head: "Head") -> dict[str, Any]:
    """What a run's own files say of it: results.json, and where that is silent the log's config."""
    given = _typed(record, "settings", dict)
    settings = head.settings if given is None else {k: setting_text(v) for k, v in given.items()}
    settings = settings or _config(path)
    seed = _first(_typed(record, "seed", int), settings.get("SEED"))
    return {
        "dataset": _typed(record, "dataset", str) or settings.get("DATASET.NAME"),
        "trainer": _typed(record, "trainer", str) or settings.get("TRAINER.NAME"),
        "shots": _first(_typed(record, "shots", int), settings.get("DATASET.NUM_SHOTS")),
        "own_seed": None if seed is None or seed < 0 else seed,  # -1: another one in every run
        "classes": _typed(record, "classes", str) or settings.get("DATASET.SUBSAMPLE_CLASSES"),
        "backbone": _typed(record, "backbone", str) or settings.get("MODEL.BACKBONE.NAME"),
        "load_epoch": _first(_typed(record, "load_epoch", int), head.load_epoch),
        "settings": settings,
    }


def _typed(record: dict[str, Any], name: str, kind: type) -> Any:
    value = record.get(name)
    return value if type(value) is kind else None


def _first(*values: int | str | None) -> int | None:
    """The first one that is a whole number."""
    for value in values:
        if type(value) is int or (type(value) is str and _WHOLE.fullmatch(value)):
            return int(value)
    return None


def _config(path: Path) -> dict[str, str]:
    """The settings in `config.yaml`, if it is sound."""
    try:
        return {key: setting_text(value) for key, value in flatten(read_yaml(path / "config.yaml"))}
    except (OSError, ValueError):
        return {}


class Head(NamedTuple):
    """What the start of a log says: the config as flat keys and texts, the epoch asked for."""

    settings: dict[str, str]
    load_epoch: int | None = None


def read_head(path: Path) -> Head:
    """Read the arguments and the config at the log's start, as far as they are there."""
    try:
        with open(path, "rb") as file:
            content = file.read(_HEAD)
    except OSError:
        return Head({})
    text = content.decode("utf-8", errors="replace")
    arguments, _, config = text.partition("** Config **")
    epoch = _LOAD_EPOCH.search(arguments)
    lines = config.splitlines()
    whole = lines[:-1] if len(content) == _HEAD else lines  # the last one may be cut
    return Head(_settings(whole), int(epoch[1]) if epoch else None)


def _settings(lines: Iterable[str]) -> dict[str, str]:
    """Of the first lines that are keys, indented by two spaces a level."""
    settings: dict[str, str] = {}
    path: list[str] = []
    for line in lines:
        match = _ENTRY.fullmatch(line.rstrip("\r"))
        if match is None and path:
            break
        if match:
            path = [*path[: len(match[1]) // 2], match[2]]
            if match[3] is not None:
                settings[".".join(path)] = setting_text(match[3].strip())
    return settings


def setting_text(value: object) -> str:
    """A value as text, in which a list is no other than a tuple."""
    text = str(value)
    return text[1:-1].removesuffix(",") if text[:1] + text[-1:] in ("()", "[]") else text
