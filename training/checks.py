"""What every trainer checks in its config, with words for what is allowed instead."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from common.config_files import read_config
from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, features_only
from training.settings import MethodSettings

SETTINGS = Path(__file__).parents[1] / "configs" / "trainers"

TASKS = {
    "B2N": "base-to-new",
    "FS": "few-shot",
    "CD": "cross-dataset and domain generalisation",
}


def cuda_is_used(cfg: CfgNode) -> bool:
    asked = cfg.get("DEVICE", "auto").startswith(("auto", "cuda"))
    return asked and cfg.USE_CUDA and torch.cuda.is_available()


def check_config(cfg: CfgNode, trainer: Any) -> None:
    """ValueError for what is wrong in the config of a trainer, as far as CLIP need not be there."""
    settings = trainer.settings_of(cfg)
    if settings.prec == "fp16" and not cuda_is_used(cfg):
        raise ValueError(
            f"{settings.key('PREC')} fp16 needs a CUDA device, and none is in use; "
            "elsewhere take amp (bfloat16 autocast) or fp32"
        )
    check_answerable(cfg, trainer)
    check_task(cfg.TASK, required=trainer.needs_task, trainer=cfg.TRAINER.NAME)
    check_tensors(cfg, trainer.views)
    check_features(cfg, trainer)
    check_layers(cfg.MODEL.BACKBONE.NAME, trainer)
    check_per_dataset(cfg, trainer)


def check_task(task: str, required: bool, trainer: str) -> None:
    """ValueError for an unknown protocol, or for none where one is needed."""
    if task in TASKS or (task == "" and not required):
        return
    allowed = ", ".join(f"{name} ({what})" for name, what in TASKS.items())
    raise ValueError(
        f"TASK is {task!r}; allowed are {allowed}. {trainer} answers seen and unseen classes "
        "differently, so the protocol has to be said: add, for example, TASK B2N at the end of "
        "the command"
    )


def check_layers(backbone: str, trainer: type) -> None:
    """ValueError where a method edits layers, and the backbone has features alone."""
    if not (features_only(backbone) and getattr(trainer, "needs_layers", True)):
        return
    known = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    others = [name for name, cls in known.items() if not getattr(cls, "needs_layers", True)]
    raise ValueError(
        f"MODEL.BACKBONE.NAME is {backbone}, whose layers open_clip computes: there are image and "
        f"text features alone, and {trainer.__name__} works between layers. Choose "
        f"--trainer {' or '.join(others)}, or a CLIP without open_clip:, such as ViT-B/16"
    )


def check_preprocessing(node: CfgNode, clip: FrozenCLIP) -> None:
    """ValueError where the config prepares images otherwise than the model says: what is to be
    set, all of it."""
    size, wanted = clip.image_size, clip.loaded.images
    differ = [
        (key, now, its)
        for key, now, its in (
            ("SIZE", list(node.SIZE), [size, size]),
            ("PIXEL_MEAN", tuple(node.PIXEL_MEAN), wanted.mean),
            ("PIXEL_STD", tuple(node.PIXEL_STD), wanted.std),
            ("INTERPOLATION", node.INTERPOLATION, wanted.interpolation),
            ("RESIZE", node.get("RESIZE", "shortest"), wanted.resize),  # upstream's has none
        )
        if its is not None and now != its
    ]
    if not differ:
        return
    key, now, its = differ[0]
    says = f"says that it takes images with {its}"
    told = " ".join(f"INPUT.{key} {_quoted(its)}" for key, _, its in differ)
    raise ValueError(
        f"INPUT.{key} is {now}, but {clip.name} "
        f"{f'takes images of {size} x {size}' if key == 'SIZE' else says}: set {told}"
    )


def _quoted(value: Any) -> str:
    return value if isinstance(value, str) else f'"{list(value)}"'


def check_answerable(cfg: CfgNode, trainer: Any) -> None:
    """ValueError where a method that knows its training classes alone is asked for others."""
    if trainer.learns_classes and cfg.DATASET.SUBSAMPLE_CLASSES == "new":
        raise ValueError(
            f"DATASET.SUBSAMPLE_CLASSES is new, but {nothing_to_say(trainer.__name__)}"
        )


def nothing_to_say(method: str, classes: str = "the classes of training") -> str:
    return (
        f"{method} has learned {classes} by example and has nothing to say of others: test on the "
        "classes of training (with the dataset and the DATASET.SUBSAMPLE_CLASSES of training; "
        "predict without --classes), or use a method that answers for new classes, such as CoOp"
    )


def check_tensors(cfg: CfgNode, views: int) -> None:
    """ValueError where the loaders would hand out something else than a tensor of images."""
    if cfg.INPUT.NO_TRANSFORM:
        raise ValueError(
            "INPUT.NO_TRANSFORM is True, but CLIP takes tensors of equal size: leave it False"
        )
    if cfg.DATALOADER.K_TRANSFORMS != views:
        told = "one view of an image: leave it 1"
        if views > 1:
            told = f"{views} views of an image: set it to {views}"
        raise ValueError(
            f"DATALOADER.K_TRANSFORMS is {cfg.DATALOADER.K_TRANSFORMS}, but {cfg.TRAINER.NAME} "
            f"learns from {told}"
        )


def check_features(cfg: CfgNode, trainer: Any) -> None:
    """ValueError where training is to read image features, and the method takes more."""
    count = cfg.get("FEATURES", {}).get("VIEWS", 0)
    if count and not (trainer.Method.reads_features() and trainer.trains_on_batches):
        raise ValueError(
            f"FEATURES.VIEWS is {count}, but {trainer.__name__} does not train on batches of the "
            "frozen CLIP's image features: leave it 0"
        )


def check_per_dataset(cfg: CfgNode, trainer: type) -> None:
    """ValueError where another train.py left out what `per_dataset.yaml` sets for this run."""
    if not getattr(cfg, "PER_DATASET", False):  # ours has read it
        return
    folders = (SETTINGS / cls.__name__ for cls in trainer.__mro__)
    table = next((folder for folder in folders if folder.is_dir()), SETTINGS) / "per_dataset.yaml"
    tree = read_config(table) if table.is_file() else {}
    entry = tree.get(cfg.TASK, {}).get(cfg.DATASET.NAME, {})
    differ = [f"{key} {value}" for key, value in entry.items() if _value(cfg, key) != value]
    if differ:
        raise ValueError(
            f"for TASK {cfg.TASK} on {cfg.DATASET.NAME} the paper has other settings ({table}), "
            f"which this train.py does not read: add {' '.join(differ)} at the end of the "
            "command, or PER_DATASET False if yours are meant"
        )


def _value(cfg: CfgNode, dotted: str) -> object:
    for name in dotted.split("."):
        cfg = cfg[name]
    return cfg


def check_template(template: str, key: str, clip: FrozenCLIP) -> None:
    """ValueError for a template without one place for a class name, or with no room for one."""
    try:
        clip.prompts(["X"], template)
    except ValueError as error:
        raise ValueError(f"{key} is {template!r:.80}: {error}") from error


def check_clip(cfg: CfgNode, settings: MethodSettings, clip: FrozenCLIP) -> None:
    """ValueError where the config does not fit this CLIP."""
    if cfg.DATASET.TEMPLATE:
        check_template(cfg.DATASET.TEMPLATE, "DATASET.TEMPLATE", clip)
    settings.check(clip)


def check_classes(names: Sequence[str]) -> None:
    """ValueError for a single class, of which every image would be predicted rightly."""
    if len(names) < 2:
        raise ValueError(
            f"this run has one class, {names[0]!r}, so that every prediction is right and the "
            "accuracy says nothing: give it at least two classes (base and new: two each)"
        )


def check_disjoint(dataset: Any, name: str) -> None:
    """ValueError where training would read test images, as of ImageNet's variants, which have no
    others: whatever is tested then is no accuracy."""
    tested = {image.impath for image in dataset.test or []}
    both = sum(image.impath in tested for image in dataset.train_x)
    if both:
        raise ValueError(
            f"{both} of {len(dataset.train_x)} training images of {name} are test images too: "
            "train on another dataset, such as ImageNet for its variants, and test here with "
            "--eval-only --model-dir RUN"
        )
