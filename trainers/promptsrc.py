"""PromptSRC: self-regulating prompts, held to the frozen CLIP and averaged over the epochs.

ICCV 2023, arXiv 2307.06948. The architecture is IVLP's (`trainers.ivlp`). What differs:

- the loss keeps image features, text features and logits near those of the frozen CLIP; its
  text features are the mean over many sentences for each class;
- the weights of all epochs are averaged under a Gaussian over the epochs, and the average is
  what is saved and tested at the end.

    f, w     features of an image and of a class       f0, w0  the same of the frozen CLIP
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Prompts
from trainers.ivlp import IVLP, IVLPMethod
from trainers.ivlp import from_public as from_public  # the tensors are IVLP's
from training.method import cosine_logits, normalize
from training.templates import IMAGENET_TEMPLATES


def add_config(cfg: CfgNode) -> None:
    cfg.TRAINER.PROMPTSRC = CfgNode()
    node = cfg.TRAINER.PROMPTSRC
    node.PREC = "fp16"  # fp32, amp (autocast) or fp16 (amp, and frozen weights in half)
    node.N_CTX_VISION = 4  # K of the vision tower
    node.N_CTX_TEXT = 4  # K of the text tower
    # What the prompts say; its first N_CTX_TEXT words are where the text tokens of the input
    # start, the rest stays. Empty, or N_CTX_TEXT above 4: the tokens start at random.
    node.CTX_INIT = "a photo of a"
    node.PROMPT_DEPTH_VISION = 9  # J of the vision tower, counted from the input
    node.PROMPT_DEPTH_TEXT = 9  # J of the text tower
    node.TEXT_LOSS_WEIGHT = 25.0  # of the distance between w and w0
    node.IMAGE_LOSS_WEIGHT = 10.0  # of the distance between f and f0
    node.GPA_MEAN = 15.0  # the epoch, from 1, with the largest weight in the average
    node.GPA_STD = 1.0  # width of the Gaussian, in epochs


class Outputs(NamedTuple):
    """Of a training forward; features are normalised."""

    logits: Tensor  # (N, C)
    f: Tensor  # (N, E)
    w: Tensor  # (C, E)
    f0: Tensor  # (N, E)
    logits0: Tensor  # (N, C), of f0 and w0


class PromptSRCMethod(IVLPMethod):
    """IVLP's forward pass, and a loss that holds it to the frozen CLIP.

    w0: the frozen CLIP's text features (C, E), normalised, see `teacher_features`
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        prompts: Prompts,
        learner: nn.Module,
        w0: Tensor,
        text_weight: float,
        image_weight: float,
    ):
        super().__init__(clip, prompts, learner)
        self.text_weight = text_weight
        self.image_weight = image_weight
        self.register_buffer("w0", w0, persistent=False)

    def forward(self, images: Tensor) -> Outputs:
        """A training forward of normalised images (N, 3, H, W)."""
        w = self.text_features()
        f, f0 = self.image_features(images, teacher=True)
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
            "l1_text": self.text_weight * F.l1_loss(w, self.w0),
            "l1_image": self.image_weight * F.l1_loss(f, f0),
            "kl": kl / logits.numel(),
        }

    def training_logits(self, outputs: Outputs) -> Tensor:
        return outputs.logits


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    node = "PROMPTSRC"
    public_variants = ()
    least_vision_depth = 1

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> PromptSRCMethod:
        node = self.settings
        w0 = teacher_features(clip, self.classnames, IMAGENET_TEMPLATES)
        weights = node.TEXT_LOSS_WEIGHT, node.IMAGE_LOSS_WEIGHT
        return PromptSRCMethod(clip, prompts, self.build_learner(clip), w0, *weights)

    def build_model(self) -> None:
        super().build_model()
        node = self.settings
        self.epoch_weights = gaussian_weights(self.max_epoch, node.GPA_MEAN, node.GPA_STD)
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
    """w0 (C, E), normalised: the mean over sentences of features that are not."""
    features = [clip.encode_text(clip.prompts(classnames, t)).float() for t in templates]
    return normalize(torch.stack(features).mean(dim=0))


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Weights of the epochs 1 .. `epochs`, proportional to N(mean, std^2), with sum one."""
    if std <= 0:
        raise ValueError(f"TRAINER.PROMPTSRC.GPA_STD is {std}; allowed are numbers above 0")
    epoch = torch.arange(1, epochs + 1, dtype=torch.float64)
    return torch.softmax(-0.5 * ((epoch - mean) / std) ** 2, dim=0).tolist()
