"""Zero-shot CLIP: templates for each class, and nothing learned.

arXiv 2103.00020. The baseline that every adaptation has to beat: `ZeroshotCLIP` with the data
set's own template, `ZeroshotCLIP2` with the mean over several.

Trained: nothing. Unseen classes: their templates, as all classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import Prompts
from training.method import Method, cosine_logits, normalize
from training.settings import MethodSettings, precision
from training.templates import SELECTED_TEMPLATES
from training.trainer import CLIPTrainer


@dataclass(frozen=True)
class ZeroshotSettings(MethodSettings):
    prec: str = precision("fp32")


@dataclass(frozen=True)
class EnsembleSettings(ZeroshotSettings):
    """own_template: whether the dataset's template is one of the ensemble, as not on ImageNet"""

    own_template: bool = True

    @classmethod
    def of(cls, cfg: CfgNode, node: str) -> Self:
        return replace(super().of(cfg, node), own_template=cfg.DATASET.NAME != "ImageNet")


class ZeroshotMethod(Method):
    """`exp(logit_scale) * cos(image, text)` of the frozen CLIP."""

    Settings: type[MethodSettings] = ZeroshotSettings

    def build_learner(self, classes: int) -> nn.Module:
        return nn.Module()

    def ensemble(self) -> list[Prompts]:
        """The prompts of one or several templates."""
        return [self.prompts]

    def text_features(self) -> Tensor:
        """w (C, E), normalized: of the mean of normalized features."""
        features = [normalize(self.clip.encode_text(prompts)) for prompts in self.ensemble()]
        return normalize(torch.stack(features).mean(dim=0))

    def of_features(self, f: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(normalize(f), w, self.clip.scale)


class EnsembleMethod(ZeroshotMethod):
    """The same with the mean over several templates."""

    Settings = EnsembleSettings
    settings: EnsembleSettings

    def prepare(self, classnames: Sequence[str]) -> None:
        self.selected = [self.clip.prompts(classnames, each) for each in SELECTED_TEMPLATES]

    def ensemble(self) -> list[Prompts]:
        return [*self.selected, self.prompts] if self.settings.own_template else self.selected


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(CLIPTrainer):
    node = "ZEROSHOTCLIP"
    Method: type[ZeroshotMethod] = ZeroshotMethod
    needs_layers = False
    trains_on_batches = False

    def train(self) -> None:  # type: ignore[override]
        """There is nothing to train: tests."""
        with torch.no_grad():
            self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Seven templates that were chosen on ImageNet, and the dataset's own on other datasets."""

    Method = EnsembleMethod
