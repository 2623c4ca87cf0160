"""PromptSRC: self-regulating prompts, held to the frozen CLIP and averaged over the epochs.

ICCV 2023, arXiv 2307.06948. The architecture is IVLP's (`trainers.ivlp`). What differs:

- the loss keeps image features, text features and logits near those of the frozen CLIP; its
  text features are the mean over many templates for each class;
- the weights of all epochs are averaged under a Gaussian over the epochs, and the average is
  what is saved and tested at the end.

Trained: the tokens of both towers. Unseen classes: the learned tokens in front of their names.

    f, w     features of an image and of a class       f0, w0  the same of the frozen CLIP
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP
from trainers.ivlp import TEXT_TOKENS, VISION_DEPTH, VISION_TOKENS, IVLPMethod, IVLPSettings
from training.learned_context import DEPTH, N_CTX
from training.method import cosine_logits, normalize
from training.settings import WEIGHT, key, number, whole
from training.templates import IMAGENET_TEMPLATES
from training.trainer import CLIPTrainer


@dataclass(frozen=True)
class PromptSRCSettings(IVLPSettings):
    least_vision_depth: ClassVar[int] = 1
    n_ctx_vision: int = key(4, whole(1, 1024), VISION_TOKENS, fixed=True)
    n_ctx_text: int = key(4, N_CTX, TEXT_TOKENS, fixed=True)
    prompt_depth_vision: int = key(9, DEPTH, VISION_DEPTH, fixed=True)
    text_loss_weight: float = key(25.0, WEIGHT, "of the distance between w and w0")
    image_loss_weight: float = key(10.0, WEIGHT, "of the distance between f and f0")
    gpa_mean: float = key(15.0, number(), "the epoch with the largest weight in the average")
    gpa_std: float = key(1.0, number(0, open_low=True), "width of the Gaussian, in epochs")


class Outputs(NamedTuple):
    """Of a training forward; features are normalized."""

    logits: Tensor  # (N, C)
    f: Tensor  # (N, E)
    w: Tensor  # (C, E)
    f0: Tensor  # (N, E)
    logits0: Tensor  # (N, C), of f0 and w0


class PromptSRCMethod(IVLPMethod):
    """IVLP's forward pass, and a loss that holds it to the frozen CLIP."""

    Settings = PromptSRCSettings
    settings: PromptSRCSettings
    w0: Tensor

    def prepare(self, classnames: Sequence[str]) -> None:
        w0 = teacher_features(self.clip, classnames, IMAGENET_TEMPLATES)
        self.register_buffer("w0", w0, persistent=False)

    def forward(self, images: Tensor) -> Outputs:
        """A training forward of normalized images (N, 3, H, W)."""
        w = self.text_features()
        f, f0 = self.image_features(images, teacher=True)
        assert f0 is not None  # the teacher's
        scale = self.clip.scale
        return Outputs(cosine_logits(f, w, scale), f, w, f0, cosine_logits(f0, self.w0, scale))

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the paper's loss, weighted; distances are means over all numbers."""
        logits, f, w, f0, logits0 = outputs
        kl = F.kl_div(
            logits.log_softmax(dim=1), logits0.log_softmax(dim=1), reduction="sum", log_target=True
        )
        return {
            "ce": F.cross_entropy(logits, labels),
            "l1_text": self.settings.text_loss_weight * F.l1_loss(w, self.w0),
            "l1_image": self.settings.image_loss_weight * F.l1_loss(f, f0),
            "kl": kl / logits.numel(),
        }

    def training_logits(self, outputs: Outputs) -> Tensor:
        return outputs.logits


@TRAINER_REGISTRY.register()
class PromptSRC(CLIPTrainer):
    node = "PROMPTSRC"
    Method = PromptSRCMethod
    model_name = "VLPromptLearner"
    settings: PromptSRCSettings

    def build_model(self) -> None:
        super().build_model()
        mean, std = self.settings.gpa_mean, self.settings.gpa_std
        self.epoch_weights = gaussian_weights(self.max_epoch, mean, std)
        self.average = deepcopy(self.method.learner).requires_grad_(False)
        for mean in self.average.parameters():
            mean.zero_()
        # Registered, so that a run that is resumed goes on with it.
        self.register_model(f"{self.model_name}Average", self.average)

    @torch.no_grad()
    def after_epoch(self) -> None:
        """Add this epoch's weights to the average, which replaces those of the last epoch."""
        weight, learner = self.epoch_weights[self.epoch], self.method.learner
        for mean, now in zip(self.average.parameters(), learner.parameters(), strict=True):
            mean += weight * now
        if self.epoch + 1 == self.max_epoch:
            learner.load_state_dict(self.average.state_dict())
        super().after_epoch()


def teacher_features(
    clip: FrozenCLIP, classnames: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """w0 (C, E), normalized: the mean over templates of features that are not."""
    features = [clip.encode_text(clip.prompts(classnames, t)).float() for t in templates]
    return normalize(torch.stack(features).mean(dim=0))


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Weights of the epochs 1 .. `epochs`, proportional to N(mean, std^2), with sum one."""
    epoch = torch.arange(1, epochs + 1, dtype=torch.float64)
    return torch.softmax(-0.5 * ((epoch - mean) / std) ** 2, dim=0).tolist()
