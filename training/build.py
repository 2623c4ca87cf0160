"""From a config to CLIP and to the method around it, with or without a trainer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

import frozen_clip
from frozen_clip import FrozenCLIP, Prompts
from frozen_clip.finite import is_finite
from frozen_clip.prompts import warn_of_equal
from training.checks import check_preprocessing
from training.method import Method
from training.precision import Precision, describe
from training.settings import MethodSettings


def load_clip(cfg: CfgNode, precision: Precision) -> FrozenCLIP:
    """The config's CLIP; ValueError if its images are not those of the config."""
    backbone, is_amp = cfg.MODEL.BACKBONE, precision.name == "amp"
    if is_amp:
        print(describe(precision.device))
    print(f"Loading CLIP (backbone: {backbone.NAME})")
    clip: Any = frozen_clip.load(  # FeatureCLIP has what methods use that need no layers
        backbone.NAME,
        precision.device,
        torch.float16 if precision.name == "fp16" else torch.float32,
        matmul_dtype=precision.half if is_amp else None,
        activation=backbone.get("ACTIVATION", ""),  # another train.py does not have it
        heads=backbone.get("HEADS", []),
    )
    check_preprocessing(cfg.INPUT, clip)
    return clip


def build_method(
    cls: type[Method],
    settings: MethodSettings,
    clip: FrozenCLIP,
    classnames: Sequence[str],
    template: str,
    precision: Precision,
) -> Method:
    """The method for these classes, its learner as it starts."""
    with precision.autocast():
        method = cls(settings, clip, classnames, template).to(precision.device)
    warn_of_equal_prompts(settings, method.prompts, classnames)
    return method


def warn_of_equal_prompts(
    settings: MethodSettings, prompts: Prompts, classnames: Sequence[str]
) -> None:
    """Warn of classes that have the same prompt, unless something is learned for each."""
    if not settings.per_class:
        warn_of_equal(prompts.ids_CL, classnames)


def are_seen(cfg: CfgNode, source: tuple[str, str]) -> bool:
    """Whether the classes of a config are those of training, on the dataset `source`."""
    if cfg.TASK == "CD":
        return (cfg.DATASET.NAME, cfg.DATASET.PATH) == source
    return bool(cfg.DATASET.SUBSAMPLE_CLASSES != "new")


def text_features(
    method: Method, classnames: Sequence[str], precision: Precision, remedy: str
) -> Tensor | None:
    """The method's text features (C, E); None if they are an image's.

    Raises FloatingPointError that names the classes where they are infinite or NaN.
    """
    with precision.autocast():
        w = method.text_features()
    if w is not None and not is_finite(w):
        bad = (~w.isfinite()).any(dim=1).tolist()
        names = [name for name, is_bad in zip(classnames, bad, strict=True) if is_bad]
        raise FloatingPointError(
            f"the text features of {len(names)} of {len(bad)} classes are infinite or NaN "
            f"({', '.join(names[:3])}), so there is no result. {remedy}"
        )
    return w
