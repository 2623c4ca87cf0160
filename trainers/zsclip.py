"""Zero-shot CLIP: the data set's sentence for each class, and nothing learned.

arXiv 2103.00020. The baseline that every adaptation has to beat.
"""

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Prompts
from trainers.base import CLIPTrainer, Method, cosine_logits, normalize


def add_config(cfg: CfgNode) -> None:
    cfg.TRAINER.ZEROSHOTCLIP = CfgNode()
    cfg.TRAINER.ZEROSHOTCLIP.PREC = "fp32"  # fp32, amp (autocast) or fp16 (amp, weights in half)


class ZeroshotMethod(Method):
    """`exp(logit_scale) * cos(image, text)` of the frozen CLIP."""

    def __init__(self, clip: FrozenCLIP, prompts: Prompts):
        super().__init__(clip, learner=nn.Module())
        self.prompts = prompts

    def text_features(self) -> Tensor:
        return normalize(self.clip.encode_text(self.prompts))

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        f = normalize(self.clip.encode_image(images))
        return cosine_logits(f, w, self.clip.scale)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(CLIPTrainer):
    node = "ZEROSHOTCLIP"

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> ZeroshotMethod:
        return ZeroshotMethod(clip, prompts)

    def train(self) -> None:
        """There is nothing to train: tests."""
        with torch.no_grad():
            self.test()
