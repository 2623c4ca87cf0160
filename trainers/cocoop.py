"""CoCoOp: conditional prompt learning, CoOp's context shifted by what the image shows.

CVPR 2022, arXiv 2203.05557. What differs from CoOp (`trainers.coop`): a small network, the
meta-net, maps an image's feature to one vector that is added to every context word. So each
image has text features of its own, and B images and C classes are B x C prompts.

Trained: the context, shared by all classes, and the meta-net. Unseen classes: the context of the
image around their names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, overwrite
from trainers.coop import ContextLearner, LearnedWords
from training.method import Method, cosine_logits, normalize
from training.trainer import CLIPTrainer

REDUCTION = 16  # of the meta-net's bottleneck
MOST_PROMPTS = 8192  # that are computed at once: bounds the memory of a test batch


class MetaNet(nn.Module):
    """A shift of the context from a normalized image feature, through a bottleneck."""

    def __init__(self, embed_dim: int, width: int):
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, embed_dim // REDUCTION)
        self.linear2 = nn.Linear(embed_dim // REDUCTION, width)

    def forward(self, f_BE: Tensor) -> Tensor:
        """(B, E) -> (B, D)."""
        return self.linear2(F.relu(self.linear1(f_BE)))


class ConditionalContextLearner(ContextLearner):
    """Everything CoCoOp trains."""

    def __init__(self, settings: LearnedWords, clip: FrozenCLIP):
        super().__init__(settings, clip)
        self.meta_net = MetaNet(clip.embed_dim, clip.text.width)


class CoCoOpMethod(Method):
    """Prompts whose context is learned and depends on the image."""

    Settings, Learner = LearnedWords, ConditionalContextLearner

    def text_features(self) -> None:
        """There are none without an image."""

    def logits(self, f_BE: Tensor) -> Tensor:
        """Normalized image features (B, E) -> (B, C), each image against its own prompts."""
        shift_B1D = self.learner.meta_net(f_BE)[:, None]
        context_BKD = (self.learner.context + shift_B1D).to(self.clip.dtype)
        w_BCE = normalize(self.clip.text.per_prefix(self.prompts, {0: overwrite(context_BKD)}))
        return cosine_logits(f_BE[:, None], w_BCE, self.clip.scale).squeeze(1)

    def of_features(self, f: Tensor, w: None, seen: bool) -> Tensor:
        at_once = max(1, MOST_PROMPTS // len(self.prompts))
        return torch.cat([self.logits(f_BE) for f_BE in normalize(f).split(at_once)])


@TRAINER_REGISTRY.register()
class CoCoOp(CLIPTrainer):
    node = "COCOOP"
    Method = CoCoOpMethod
    model_name = "prompt_learner"
