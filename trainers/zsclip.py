"""Zero-shot CLIP: sentences for each class, and nothing learned.

arXiv 2103.00020. The baseline that every adaptation has to beat: `ZeroshotCLIP` with the data
set's own sentence, `ZeroshotCLIP2` with the mean over several.
"""

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Prompts
from training.method import Method, cosine_logits, normalize
from training.templates import SELECTED_TEMPLATES
from training.trainer import CLIPTrainer


def add_config(cfg: CfgNode) -> None:
    cfg.TRAINER.ZEROSHOTCLIP = CfgNode()
    cfg.TRAINER.ZEROSHOTCLIP.PREC = "fp32"  # fp32, amp (autocast) or fp16 (amp, weights in half)


class ZeroshotMethod(Method):
    """`exp(logit_scale) * cos(image, text)` of the frozen CLIP.

    prompts: one or several sentences for each class; of several, the mean of their normalised
        features counts
    """

    def __init__(self, clip: FrozenCLIP, *prompts: Prompts):
        super().__init__(clip, learner=nn.Module())
        self.prompts = prompts

    def text_features(self) -> Tensor:
        """w (C, E), normalised."""
        features = [normalize(self.clip.encode_text(prompts)) for prompts in self.prompts]
        return normalize(torch.stack(features).mean(dim=0))

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        f = normalize(self.clip.encode_image(images))
        return cosine_logits(f, w, self.clip.scale)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(CLIPTrainer):
    node = "ZEROSHOTCLIP"
    needs_layers = False

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> ZeroshotMethod:
        return ZeroshotMethod(clip, prompts)

    def train(self) -> None:
        """There is nothing to train: tests."""
        with torch.no_grad():
            self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Seven sentences that were chosen on ImageNet, and the data set's own on other data sets."""

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> ZeroshotMethod:
        selected = [clip.prompts(self.classnames, t) for t in SELECTED_TEMPLATES]
        own = [] if self.cfg.DATASET.NAME == "ImageNet" else [prompts]
        return ZeroshotMethod(clip, *selected, *own)
