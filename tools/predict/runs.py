"""What a run's folder says: config, class names, sentence."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from common.advice import move_aside
from common.text_files import read_text
from dassl.data.datasets import build_dataset
from dassl.engine import TRAINER_REGISTRY
from run.config import default_config, merge_file
from run.flat import EARLIER
from run.identity import check_code, of_training
from run.plugins import check_registered, described
from run.record import CLASSES
from training.settings import MethodSettings
from training.templates import template_of
from training.trainer import CLIPTrainer


class Run(NamedTuple):
    """A training run; template is None for a method that has its own, and where none is known."""

    folder: Path
    cfg: CfgNode
    trainer: type[CLIPTrainer]
    classes: list[str]
    template: str | None
    has_own_template: bool


def read_run(
    folder: Path,
    root: str | None,
    classes: list[str] | None,
    plugins: Iterable[str],
    plugin_paths: Iterable[str],
) -> Run:
    """Read a run's folder; `classes`, where they are given, replace its own.

    Raises FileNotFoundError or ValueError that says what is missing.
    """
    plugins = list(plugins)
    cfg = default_config(plugins, plugin_paths)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(
            f"no run in {folder}: it has no config.yaml. Give --model-dir the folder "
            "that train.py trained into (its --output-dir)"
        )
    cfg.merge_from_list([word for setting in EARLIER.items() for word in setting])
    merge_file(cfg, folder / "config.yaml")
    if root is not None:
        cfg.DATASET.ROOT = root
    trainer = _trainer(cfg.TRAINER.NAME)
    check_code(of_training(folder), described(plugins), cfg.TRAINER.NAME, folder)
    settings = trainer.settings_of(cfg)
    has_own = not settings.needs_template
    if (folder / CLASSES).is_file():
        own, template = _read_classes(folder / CLASSES)
    elif classes is not None:
        own, template = classes, cfg.DATASET.TEMPLATE or None
    else:
        own, template = _from_data(folder, cfg, settings)
    return Run(folder, cfg, trainer, classes or own, None if has_own else template, has_own)


def _trainer(name: str) -> type[CLIPTrainer]:
    what = "trainer (--plugin FILE, if it is in a file of its own)"
    check_registered(TRAINER_REGISTRY, name, what)
    trainer = TRAINER_REGISTRY.get(name)
    if not issubclass(trainer, CLIPTrainer):
        raise ValueError(
            f"the run was trained by {name}, which is not built on training.trainer.CLIPTrainer: "
            "its answers to the test pictures can be had with train.py --eval-only "
            "... TEST.SAVE_PREDICTIONS True"
        )
    return trainer


def _read_classes(file: Path) -> tuple[list[str], str | None]:
    remedy = f"copy it again, or move it aside ({move_aside(file)}) and give --classes or --root"
    try:
        content = json.loads(read_text(file))
        names, template = content["classnames"], content["template"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): {remedy}") from error
    is_text = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not (is_text and names and isinstance(template, str | None)):
        raise ValueError(f"{file} is damaged (no list of names): {remedy}")
    return names, template


def _from_data(
    folder: Path, cfg: CfgNode, settings: MethodSettings
) -> tuple[list[str], str | None]:
    """Names and sentence as the data set has them, for runs that did not write them down."""
    try:
        dataset = build_dataset(cfg)
        names = [name for _, name in sorted(dataset.lab2cname.items())]
        if not settings.needs_template:
            return names, None
        return names, settings.template_for(template_of(dataset, cfg))
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{folder} has no {CLASSES}, in which newer runs keep the class names, and they "
            f"cannot be read from the data set {cfg.DATASET.NAME} either: {error}\n"
            "Give its folder with --root, or the names with --classes (they are then "
            "answered as unseen classes)"
        ) from error
