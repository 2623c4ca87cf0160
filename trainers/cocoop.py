"""CoCoOp: conditional prompt learning, CoOp's context shifted by what the image shows.

CVPR 2022, arXiv 2203.05557. What differs from CoOp (`trainers.coop`): a small network, the
meta-net, maps an image's feature to one vector that is added to every context word. So each
image has text features of its own, and B images and C classes are B x C prompts.

Trained: the context, shared by all classes, and the meta-net.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Prompts, overwrite
from trainers.coop import ContextLearner, CoOp, CoOpMethod
from training.learned_context import Context
from training.method import cosine_logits, normalize
from training.published import PublicNames, PublicTensor

REDUCTION = 16  # of the meta-net's bottleneck
MOST_PROMPTS = 8192  # that are computed at once: bounds the memory of a test batch


def add_config(cfg: CfgNode) -> None:
    cfg.TRAINER.COCOOP = CfgNode()
    node = cfg.TRAINER.COCOOP
    node.PREC = "fp16"  # fp32, amp (autocast) or fp16 (amp, and frozen weights in half)
    node.N_CTX = 16  # K, if CTX_INIT is empty
    node.CTX_INIT = ""  # words that the context starts as; empty: random vectors


class MetaNet(nn.Module):
    """A shift of the context from a normalised image feature, through a bottleneck."""

    def __init__(self, embed_dim: int, width: int):
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, embed_dim // REDUCTION)
        self.linear2 = nn.Linear(embed_dim // REDUCTION, width)

    def forward(self, f_BE: Tensor) -> Tensor:
        """(B, E) -> (B, D)."""
        return self.linear2(F.relu(self.linear1(f_BE)))


class ConditionalContextLearner(ContextLearner):
    """Everything CoCoOp trains."""

    def __init__(self, clip: FrozenCLIP, context: Context):
        super().__init__(clip, context)
        self.meta_net = MetaNet(clip.embed_dim, clip.text.width)


META_NET = {"linear1.weight": 2, "linear1.bias": 1, "linear2.weight": 2, "linear2.bias": 1}
PUBLIC = PublicNames(
    {
        "context": PublicTensor("prompt_learner.ctx", ("N_CTX/CTX_INIT", "")),
        **{
            f"meta_net.{name}": PublicTensor(f"prompt_learner.meta_net.{name}", ("",) * axes)
            for name, axes in META_NET.items()
        },
    },
    root="prompt_learner.",
)
from_public = PUBLIC.from_public


class CoCoOpMethod(CoOpMethod):
    """Prompts whose context is learned and depends on the image."""

    def text_features(self) -> None:
        """There are none without an image."""

    def logits(self, f_BE: Tensor) -> Tensor:
        """Normalised image features (B, E) -> (B, C), each image against its own prompts."""
        shift_B1D = self.learner.meta_net(f_BE)[:, None]
        context_BKD = (self.learner.context + shift_B1D).to(self.clip.dtype)
        w_BCE = normalize(self.clip.text.per_prefix(self.prompts, {0: overwrite(context_BKD)}))
        return cosine_logits(f_BE[:, None], w_BCE, self.clip.scale).squeeze(1)

    def classify(self, images: Tensor, w: None, seen: bool) -> Tensor:
        f = normalize(self.clip.encode_image(images))
        at_once = max(1, MOST_PROMPTS // len(self.prompts))
        return torch.cat([self.logits(f_BE) for f_BE in f.split(at_once)])


@TRAINER_REGISTRY.register()
class CoCoOp(CoOp):
    node = "COCOOP"
    shape_keys = ("N_CTX", "CTX_INIT")
    public = PUBLIC

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> CoCoOpMethod:
        return CoCoOpMethod(clip, prompts, ConditionalContextLearner(clip, self.context))
