"""The identity of a run: its settings, its data and weights, the trained weights that it tests.

It is in `identity.json` from the start of a run, and in `results.json` (`run.schema.Identity`)
when it has ended. Older runs have their settings in `config.yaml` alone.
"""

import hashlib
import json
import math
import os
from argparse import Namespace
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from common.safe_yaml import read_yaml
from dassl.engine import SimpleTrainer
from frozen_clip import file_hash, weights_hash
from run.config import PATHS, default_config, own_part
from run.data_hashes import data_hash
from run.flat import EARLIER, INCIDENTAL, flatten
from run.plugins import described
from run.reader import read_object, read_record, replacing
from run.record import RESULTS, holds_checkpoints, write_atomically

IDENTITY = "identity.json"
BACKBONE = "MODEL.BACKBONE.NAME"
HASHES = {"data_hash": "the data (SHA-256)", "weights_hash": "the weights of CLIP (SHA-256)"}
MOST_LINES = 12  # of what differs

Identity = dict[str, Any]
Settings = dict[str, Any]


def settings_of(cfg: CfgNode) -> Settings:
    """The flat config, without keys that cannot change a result."""
    flat = _flat(yaml.safe_load(own_part(cfg).dump()))
    return {key: value for key, value in sorted(flat.items()) if key not in INCIDENTAL}


def default_settings(plugins: Iterable[str], paths: Iterable[str]) -> Settings:
    """The default of every key."""
    return _flat(yaml.safe_load(default_config(plugins, paths).dump()))


def _flat(tree: dict[str, Any]) -> Settings:
    """Flat, and as JSON stores it, which has no dates and no infinite numbers."""
    plain = {key: _plain(value) for key, value in flatten(tree)}
    return json.loads(json.dumps(plain, default=str))


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def planned(cfg: CfgNode, args: Namespace) -> Identity:
    """The identity as far as config and command line say it, before any data are read."""
    trained, why = trained_in(args.model_dir) if args.eval_only else (None, None)
    plugins = described(args.plugin)
    if trained:
        check_code(trained, plugins, cfg.TRAINER.NAME, args.model_dir)
    return {
        "eval_only": args.eval_only,
        "load_epoch": args.load_epoch if args.eval_only else None,
        "root": os.path.abspath(cfg.DATASET.ROOT),
        "settings": settings_of(cfg),
        "plugins": plugins,
        "weights_hash": weights_hash(cfg.MODEL.BACKBONE.NAME),
        "trained": trained,
        "trained_note": why,
    }


def identity_of(trainer: SimpleTrainer, args: Namespace) -> Identity:
    """The whole identity, of a trainer that is built and has loaded the weights to test."""
    found = planned(trainer.cfg, args)
    if not trainer.get_model_names():  # nothing was trained
        found |= {"trained": None, "trained_note": None}
    found["data_hash"] = data_hash(trainer, trains=not args.eval_only)
    found["checkpoint"], found["checkpoint_hash"] = None, None
    checkpoint = getattr(trainer, "checkpoint", None) if args.eval_only else None
    if isinstance(checkpoint, Path):  # a plugin has none
        found["checkpoint"] = checkpoint_facts(checkpoint, Path(trainer.cfg.OUTPUT_DIR))
        found["checkpoint_hash"] = file_hash(checkpoint)
    return found | {"fingerprint": fingerprint(found)}


def trained_in(directory: str) -> tuple[Identity | None, str | None]:
    """The identity of the training run in a directory; else None, and why."""
    if not directory:
        return None, None
    found = of_training(Path(directory))
    if not found:
        return None, f"{directory} has neither {IDENTITY} nor config.yaml: it does not say"
    keys = ("settings", "plugins", "data_hash", "weights_hash", "fingerprint")
    return {key: found.get(key) for key in keys}, None


def check_code(
    trained: Identity, plugins: list[dict[str, Any]], trainer: str, directory: object
) -> None:
    """ValueError unless the trainer came from the same plugin, or none, in training and now."""
    there, now = replacing(trained, trainer), replacing({"plugins": plugins}, trainer)
    if there is not None and there != now:
        names = [f"--plugin {', '.join(files)}" if files else "none" for files in (there, now)]
        raise ValueError(
            f"the weights in {directory} were trained by another {trainer}: the plugin in its "
            f"place was {names[0]} then and is {names[1]} now. Give what training was given"
        )


def of_training(folder: Path) -> Identity:
    """The identity of the run whose weights a directory holds, as far as it is known."""
    with suppress(OSError, ValueError):
        found = read_object(folder / IDENTITY)
        if isinstance(found.get("settings"), dict):
            return found
    file = folder / "config.yaml"
    if not file.is_file():
        return {}
    return {"settings": _flat(read_yaml(file))}


def of_result(folder: Path) -> Identity:
    """The identity of the run whose result a directory holds; {} without a result."""
    try:
        record, metrics = read_record(folder / RESULTS)
    except (OSError, ValueError):
        return {}
    if not metrics:
        return {}
    return record if isinstance(record.get("settings"), dict) else record | of_training(folder)


def write_identity(identity: Identity, directory: Path) -> None:
    """Save it; a run that is continued keeps it."""
    write_atomically(directory / IDENTITY, json.dumps(identity, indent=1, allow_nan=False))


def checkpoint_facts(file: Path, directory: Path) -> dict[str, Any]:
    """Path of a checkpoint from the run's directory, size and time, which show a change."""
    stat = file.stat()
    where = os.path.relpath(file, directory)
    return {"file": where, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def fingerprint(identity: Identity) -> str:
    """A hash of settings, data, weights and training, equal for repetitions of a run.

    The name of the weights' file does not count if their hash is known. An unknown training run is
    represented by the tested file.
    """
    settings, trained = dict(identity["settings"]), identity["trained"] or {}
    if identity["weights_hash"]:
        settings.pop(BACKBONE, None)
    parts = [settings, identity["data_hash"], identity["weights_hash"]]
    parts += [identity["eval_only"], identity["load_epoch"]]
    parts += [plugin["sha256"] for plugin in identity["plugins"]]
    parts += [trained.get("fingerprint") or trained or identity["checkpoint_hash"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# Whether a folder holds the run that is asked for


def check_continues(
    now: Identity, directory: Path, defaults: Callable[[], Settings], remedy: str = ""
) -> None:
    """ValueError if `directory` holds another run, to be resumed or its result replaced."""
    if differ := differences(held(directory, now["eval_only"]), now, defaults):
        result, all_of_it = (
            f"its {RESULTS}, if you do not need it",
            "that directory to start afresh",
        )
        choose = (
            f"Choose another --output-dir, or delete {result if now['eval_only'] else all_of_it}"
        )
        raise ValueError(another(directory, differ) + (remedy or choose))


def held(directory: Path, tests: bool) -> Identity:
    """The run in a directory that another would continue or, if it `tests`, replace; else {}."""
    if not tests and holds_checkpoints(directory):
        return of_training(directory) | {"eval_only": False}
    return of_result(directory)


def another(directory: Path, differ: list[str]) -> str:
    """The refusal of a directory that holds another run, but for the next step."""
    lines = differ[:MOST_LINES]
    if more := len(differ) - len(lines):
        lines.append(f"and {more} more")
    start = f"{directory} already holds a run with another config:"
    return f"{start} {lines[0]}. " if len(lines) == 1 else "\n  ".join([start, *lines]) + "\n"


def differences(there: Identity, now: Identity, defaults: Callable[[], Settings]) -> list[str]:
    """A line per difference of two runs; what only one states is not compared."""
    lines = []
    if now.get("settings") and isinstance(there.get("settings") or None, dict):
        lines += _settings(there, now, defaults)
    before, after = _files(there), _files(now)
    if None not in (before, after) and before != after:
        lines.append(f"--plugin: {before} there, {after} now")
    for key, words in HASHES.items():
        if there.get(key) and now.get(key) and there[key] != now[key]:
            lines.append(f"{words}: {there[key]!s:.12} there, {now[key]!s:.12} now")
    for key in ("eval_only", "load_epoch"):
        if key in there and there[key] != now.get(key):
            lines.append(f"{key}: {there[key]} there, {now.get(key)} now")
    if isinstance(there.get("trained"), dict) and now.get("trained"):
        more = differences(there["trained"], now["trained"], defaults)
        lines += [f"tests weights that were trained with {line}" for line in more]
    return lines


def _settings(there: Identity, now: Identity, defaults: Callable[[], Settings]) -> list[str]:
    after = now["settings"]
    before = {key: EARLIER[key] for key in EARLIER.keys() & after} | there["settings"]
    before |= {key: os.path.expanduser(str(before[key])) for key in PATHS & before.keys()}
    keys = (before.keys() | after.keys()) - INCIDENTAL
    weights = there.get("weights_hash")
    if weights and weights == now.get("weights_hash"):
        keys -= {BACKBONE}  # the same under another name
    differ = sorted(key for key in keys if before.get(key) != after.get(key))
    # A key that is new since then has changed nothing as long as it has its default.
    new = {key for key in differ if key not in before and defaults().get(key) == after[key]}
    return [
        f"{key}: {_shown(before, key)} there, {_shown(after, key)} now"
        for key in differ
        if key not in new
    ]


def _files(identity: Identity) -> list[str] | None:
    """File names of plugins; their content is recorded, like our own code, but not compared."""
    plugins = identity.get("plugins")
    if not isinstance(plugins, list):
        return None
    return sorted(Path(str(p.get("file"))).name for p in plugins if isinstance(p, dict))


def _shown(settings: Settings, key: str) -> str:
    return f"{settings.get(key, 'no such key')!s:.80}" or "''"
