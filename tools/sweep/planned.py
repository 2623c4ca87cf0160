"""Why planned runs are refused. Run as a process of its own, since it takes torch.

    python -m tools.sweep.planned REQUEST REPLY

REQUEST lists, for each run, its arguments of train.py, those of the training run that it tests (or
[]), and whether its data must be here. REPLY gets the refusal, or null.
"""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from yacs.config import CfgNode

import train
from common.safe_yaml import read_yaml
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.engine import TRAINER_REGISTRY
from frozen_clip import weights_file, weights_hash
from run.config import build_config
from run.data_hashes import data_hash
from run.flat import flatten
from run.identity import another, default_settings, differences, held, settings_of
from run.plugins import check_registered, described
from run.record import RESULTS
from training.checks import check_layers
from training.trainer import CLIPTrainer

SHOTS = "DATASET.NUM_SHOTS"
# What a result may lack that was found without these keys.
OUTPUTS = ("TEST.SAVE_PREDICTIONS", "TEST.PER_CLASS_RESULT", "TEST.COMPUTE_CMAT")
REMEDY = (
    "--tag NAME (TAG in the scripts) puts what is asked for now into directories of its own; or "
    "delete that directory to start afresh"
)


@dataclass(frozen=True)
class Planned:
    """A run that was asked for."""

    args: Namespace
    cfg: CfgNode  # but for its seed and shots
    settings: dict[str, Any]

    @property
    def directory(self) -> Path:
        return Path(self.args.output_dir)


def main(argv: Sequence[str]) -> int:
    request, reply = map(Path, argv)
    part = reply.with_suffix(".part")
    part.write_text(json.dumps(refusal(json.loads(request.read_text()))))
    part.replace(reply)
    return 0


def refusal(request: Sequence[tuple[Sequence[str], Sequence[str], bool]]) -> str | None:
    """Why runs cannot be started: wrong settings, other runs in their directories, missing data."""
    known: dict[str, Planned] = {}
    _data_hashes.clear()
    try:
        runs = [_plan(run, known) for run, _, _ in request]
        tested = [_plan(words, known) if words else None for _, words, _ in request]
        refused = [why for pair in zip(runs, tested, strict=True) if (why := _refuse(*pair))]
    except (ValueError, OSError) as error:
        return str(error)
    need = {id(run.cfg): run.cfg for run, (*_, data) in zip(runs, request, strict=True) if data}
    refused = refused or [why for cfg in need.values() if (why := _missing_data(cfg))]
    more = f" ({len(refused) - 1} more of these runs are refused likewise)" if refused[1:] else ""
    return refused[0] + more if refused else None


def _missing_data(cfg: CfgNode) -> str | None:
    try:
        train.check_data(cfg)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _plan(arguments: Sequence[str], known: dict[str, Planned]) -> Planned:
    """A run and its settings, which are found out once for all its seeds and shots."""
    args = train.parse_args(list(arguments))
    shots = args.opts.index(SHOTS) + 1
    own = {"SEED": args.seed, SHOTS: int(args.opts[shots])}
    opts = [*args.opts[:shots], *args.opts[shots + 1 :]]
    alike = {"seed": 0, "output_dir": "", "model_dir": "", "opts": opts}
    kind = json.dumps(vars(args) | alike, sort_keys=True)
    if kind not in known:
        known[kind] = _resolve(args)
    return replace(known[kind], args=args, settings=known[kind].settings | own)


def _resolve(args: Namespace) -> Planned:
    """ValueError or OSError as train.py says it, for what can be told without data."""
    cfg, _ = build_config(args)
    check_registered(DATASET_REGISTRY, cfg.DATASET.NAME, "data set (DATASET.NAME)")
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if issubclass(trainer, CLIPTrainer):
        check_layers(cfg.MODEL.BACKBONE.NAME, trainer)
        if not args.eval_only:
            trainer.check_training(cfg)
        with suppress(OSError):  # on a hub, and not here yet: the run downloads it
            weights_file(cfg.MODEL.BACKBONE.NAME)
    return Planned(args, cfg, settings_of(cfg))


def _refuse(run: Planned, training: Planned | None) -> str | None:
    """The words of a refusal; None for a run that may be started, continued or skipped."""
    if training and (differ := _differ(training, None)):
        return f"the weights to test are others: {another(training.directory, differ)}{REMEDY}"
    if differ := _differ(run, training):
        return another(run.directory, differ) + REMEDY
    return _lacks(run)


def _differ(run: Planned, training: Planned | None) -> list[str]:
    """What differs from the run that a directory holds, or from that whose result it holds."""
    for tests in sorted({run.args.eval_only, True}):
        there = held(run.directory, tests)
        if there and (differ := _compare(run, training, there)):
            return differ
    return []


def _compare(run: Planned, training: Planned | None, there: dict[str, Any]) -> list[str]:
    now = {
        "eval_only": run.args.eval_only,
        "load_epoch": None,
        "settings": run.settings,
        "plugins": described(run.args.plugin),
        "weights_hash": weights_hash(run.cfg.MODEL.BACKBONE.NAME),
        "trained": {"settings": training.settings} if training else None,
    }
    code = (tuple(run.args.plugin), tuple(run.args.plugin_path))
    defaults = partial(_defaults, *code)
    if differ := differences(there, now, defaults):
        return differ
    return differences(there, now | {"data_hash": _data_elsewhere(run, there)}, defaults)


_defaults = cache(default_settings)


def _data_elsewhere(run: Planned, there: dict[str, Any]) -> str | None:
    """The hash of the run's data, where these lie in another directory than they did; else None.

    None also where they cannot be read here: on a cluster they may be on other machines.
    """
    root = there.get("root")
    if not there.get("data_hash") or not isinstance(root, str):
        return None
    if os.path.realpath(root) == os.path.realpath(run.args.root):
        return None
    words = ("DATASET.", "SEED", "TEST.SPLIT")
    lists = {key: value for key, value in run.settings.items() if key.startswith(words)}
    key = json.dumps([lists, run.args.eval_only, run.args.root, run.args.plugin])
    if key not in _data_hashes:
        _data_hashes[key] = _hash_of_data(run)
    return _data_hashes[key]


_data_hashes: dict[str, str | None] = {}


def _hash_of_data(run: Planned) -> str | None:
    cfg = run.cfg.clone()
    cfg.defrost()
    cfg.SEED, cfg.DATASET.NUM_SHOTS = run.args.seed, run.settings[SHOTS]
    try:
        data: Any = SimpleNamespace(dm=SimpleNamespace(dataset=build_dataset(cfg)), cfg=cfg)
    except OSError:
        return None
    return data_hash(data, trains=not run.args.eval_only)


def _lacks(run: Planned) -> str | None:
    """A refusal where a result is there without a file or number that is asked for now."""
    wanted = [key for key in OUTPUTS if dict(flatten(run.cfg))[key]]
    config = run.directory / "config.yaml"
    if not wanted or not config.is_file() or not held(run.directory, tests=True):
        return None
    before = dict(flatten(read_yaml(config)))
    if lacking := [key for key in wanted if not before.get(key)]:
        return (
            f"{run.directory} has a result that was found without {lacking[0]}; delete {RESULTS} "
            "there, and the test alone is repeated"
        )
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
