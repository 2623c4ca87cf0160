"""From the names in INPUT.TRANSFORMS to a pipeline from PIL image to tensor."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torchvision import transforms as T
from torchvision.transforms import (
    AutoAugmentPolicy,
    CenterCrop,
    ColorJitter,
    Compose,
    GaussianBlur,
    InterpolationMode,
    Normalize,
    RandomApply,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)
from yacs.config import CfgNode

from dassl.utils import check_availability

from .augment import Cutout, GaussianNoise, InstanceNormalization, Random2DTranslation

__all__ = [  # plugins take all of these from here
    "AVAI_CHOICES",
    "INTERPOLATION_MODES",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Cutout",
    "GaussianBlur",
    "GaussianNoise",
    "InstanceNormalization",
    "InterpolationMode",
    "Normalize",
    "Random2DTranslation",
    "RandomApply",
    "RandomCrop",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Resize",
    "ToTensor",
    "build_transform",
    "torch",
]

Transform = Callable[[Any], Any]

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}
RESIZE_MODES = ("shortest", "squash")


def _interpolation(cfg: CfgNode) -> InterpolationMode:
    name = cfg.INPUT.INTERPOLATION
    check_availability(name, list(INTERPOLATION_MODES), what="INPUT.INTERPOLATION")
    return INTERPOLATION_MODES[name]


def _size(cfg: CfgNode) -> tuple[int, int]:
    height, width = cfg.INPUT.SIZE
    return height, width


def _centre(cfg: CfgNode) -> Transform:
    """Bring the smaller edge to the larger side of INPUT.SIZE, and cut out the middle; with
    INPUT.RESIZE squash, bring both edges to INPUT.SIZE."""
    check_availability(cfg.INPUT.RESIZE, list(RESIZE_MODES), what="INPUT.RESIZE")
    if cfg.INPUT.RESIZE == "squash":
        return T.Resize(_size(cfg), interpolation=_interpolation(cfg))
    resize = T.Resize(max(cfg.INPUT.SIZE), interpolation=_interpolation(cfg))
    return T.Compose([resize, T.CenterCrop(_size(cfg))])


def _resized_crop(cfg: CfgNode) -> Transform:
    scale = tuple(cfg.INPUT.RRCROP_SCALE)
    return T.RandomResizedCrop(_size(cfg), scale=scale, interpolation=_interpolation(cfg))


def _jitter(cfg: CfgNode) -> Transform:
    node = cfg.INPUT
    return T.ColorJitter(
        brightness=node.COLORJITTER_B,
        contrast=node.COLORJITTER_C,
        saturation=node.COLORJITTER_S,
        hue=node.COLORJITTER_H,
    )


def _rand_augment(cfg: CfgNode) -> Transform:
    return T.RandAugment(num_ops=cfg.INPUT.RANDAUGMENT_N, magnitude=cfg.INPUT.RANDAUGMENT_M)


def _blur(cfg: CfgNode) -> Transform:
    return T.RandomApply([T.GaussianBlur(cfg.INPUT.GB_K)], p=cfg.INPUT.GB_P)


def _policy(policy: AutoAugmentPolicy) -> Callable[[CfgNode], Transform]:
    return lambda cfg: T.AutoAugment(policy)


# what brings the image to INPUT.SIZE; without one of these it is simply resized to it
_SIZING: dict[str, Callable[[CfgNode], Transform]] = {
    "center_crop": _centre,
    "random_crop": lambda cfg: T.RandomCrop(_size(cfg), padding=cfg.INPUT.CROP_PADDING),
    "random_resized_crop": _resized_crop,
}
# each table is in the order in which its transforms are applied
_ON_IMAGE: dict[str, Callable[[CfgNode], Transform]] = {
    "random_translation": lambda cfg: Random2DTranslation(*_size(cfg), _interpolation(cfg)),
    **_SIZING,
    "random_flip": lambda cfg: T.RandomHorizontalFlip(),
    "imagenet_policy": _policy(AutoAugmentPolicy.IMAGENET),
    "cifar10_policy": _policy(AutoAugmentPolicy.CIFAR10),
    "svhn_policy": _policy(AutoAugmentPolicy.SVHN),
    "randaugment": _rand_augment,
    "colorjitter": _jitter,
    "randomgrayscale": lambda cfg: T.RandomGrayscale(p=cfg.INPUT.RGS_P),
    "gaussian_blur": _blur,
}
_ON_TENSOR: dict[str, Callable[[CfgNode], Transform]] = {
    "cutout": lambda cfg: Cutout(cfg.INPUT.CUTOUT_N, cfg.INPUT.CUTOUT_LEN),
    "normalize": lambda cfg: T.Normalize(list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD)),
    "gaussian_noise": lambda cfg: GaussianNoise(cfg.INPUT.GN_MEAN, cfg.INPUT.GN_STD),
    "instance_norm": lambda cfg: InstanceNormalization(),
}
_AT_TEST = ("normalize", "instance_norm")
AVAI_CHOICES = [*_ON_IMAGE, *_ON_TENSOR]


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> T.Compose | None:
    """Build the pipeline for training, or for testing: centre crop and normalization.

    Args:
        choices: names to use instead of INPUT.TRANSFORMS.

    Returns:
        None with INPUT.NO_TRANSFORM.

    Raises:
        ValueError: a name is unknown.
    """
    kind = "train" if is_train else "test"
    if cfg.INPUT.NO_TRANSFORM:
        print(f"Note: no transform is applied ({kind})")
        return None
    chosen = cfg.INPUT.TRANSFORMS if choices is None else choices
    for name in chosen:
        check_availability(name, AVAI_CHOICES, what="transform (INPUT.TRANSFORMS)")
    steps = _train_steps(cfg, chosen) if is_train else _test_steps(cfg, chosen)
    if cfg.VERBOSE:
        print(f"Transform ({kind}): " + ", ".join(" ".join(str(step).split()) for step in steps))
    return T.Compose(steps)


def _train_steps(cfg: CfgNode, chosen: Sequence[str]) -> list[Transform]:
    on_image = [build(cfg) for name, build in _ON_IMAGE.items() if name in chosen]
    if not any(name in chosen for name in _SIZING):
        on_image.insert(0, T.Resize(_size(cfg), interpolation=_interpolation(cfg)))
    on_tensor = [build(cfg) for name, build in _ON_TENSOR.items() if name in chosen]
    return [*on_image, T.ToTensor(), *on_tensor]


def _test_steps(cfg: CfgNode, chosen: Sequence[str]) -> list[Transform]:
    on_tensor = [_ON_TENSOR[name](cfg) for name in _AT_TEST if name in chosen]
    return [_centre(cfg), T.ToTensor(), *on_tensor]
