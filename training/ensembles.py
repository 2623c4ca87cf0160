"""Text features of several templates, as in Tip-Adapter's code and what came after it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from frozen_clip import FrozenCLIP
from training.method import normalize
from training.settings import MethodSettings
from training.templates import IMAGENETS, SELECTED_TEMPLATES


def own_ensemble(dataset: str) -> tuple[str, ...]:
    """Seven templates for ImageNet and its variants; none for others, which have their own."""
    return SELECTED_TEMPLATES if dataset in IMAGENETS else ()


@dataclass(frozen=True)
class EnsembleSettings(MethodSettings):
    """Of a method with such templates that learns something for each class."""

    @property
    def template(self) -> str | None:
        """The first of several, where it has some of its own."""
        return next(iter(own_ensemble(self.dataset)), None)

    @property
    def per_class(self) -> bool:
        return True


def mean_features(clip: FrozenCLIP, classnames: Sequence[str], templates: Sequence[str]) -> Tensor:
    """w (C, E), normalized: of the mean over templates of normalized features."""
    prompts = (clip.prompts(classnames, template) for template in templates)
    w_TCE = torch.stack([normalize(clip.encode_text(each)) for each in prompts])
    return normalize(w_TCE.mean(dim=0))
