"""MMRL++: parameter-efficient and interaction-aware representation learning.

IJCV 2026, arXiv 2505.10088. What differs from MMRL (`trainers.mmrl`):

- SRRA, shared-residual representation aligner: the aligners of a tower share one weight W;
  each layer adds only a low-rank residual A_i B_i and a bias.
- PRC, progressive representation composition: a later layer's tokens do not replace what
  the layer below made of the earlier ones but are blended with it, with weight beta.
- The projection of representation features is CLIP's own, frozen, plus a low-rank A B.

Trained: R, and of each aligner W, A_i, B_i, b_i; A and B. Unseen classes: the class token's feature
alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import Edit, FrozenCLIP, blend
from trainers.mmrl import MMRL, MMRLMethod, MMRLSettings
from training.settings import SHARE, key, whole


@dataclass(frozen=True)
class MMRLPlusSettings(MMRLSettings):
    beta: float = key(0.5, SHARE, "weight of a layer's own tokens against those from below")
    res_lora_dim: int = key(4, whole(1, 2**12), "rank of the aligners' residuals", fixed=True)
    proj_lora_dim: int = key(64, whole(1, 2**12), "rank of the projection's residual", fixed=True)


class SharedResidualAligner(nn.Module):
    """SRRA: F^i(R) = R (W + A_i B_i)^T + b_i."""

    def __init__(self, layers: int, rep_dim: int, width: int, rank: int):
        super().__init__()
        start = nn.Linear(rep_dim, width)
        self.weight = nn.Parameter(start.weight.detach().clone())
        self.bias = nn.Parameter(start.bias.detach().repeat(layers, 1))
        self.A = nn.Parameter(torch.stack([low_rank_start(width, rank) for _ in range(layers)]))
        self.B = nn.Parameter(torch.zeros(layers, rank, rep_dim))

    def forward(self, rep_tokens: Tensor) -> Tensor:
        """R (K, R_dim) -> tokens for each layer (J, K, D)."""
        shared_KD = rep_tokens @ self.weight.mT
        residual_JKD = rep_tokens @ self.B.mT @ self.A.mT
        return shared_KD + residual_JKD + self.bias[:, None]


class SharedRepresentationLearner(nn.Module):
    """Everything MMRL++ trains."""

    def __init__(self, settings: MMRLPlusSettings, clip: FrozenCLIP):
        super().__init__()
        layers, rep_dim, rank = len(settings.rep_layers), settings.rep_dim, settings.res_lora_dim
        vision, text = clip.vision.width, clip.text.width
        self.rep_tokens = nn.Parameter(0.02 * torch.randn(settings.n_rep_tokens, rep_dim))
        self.vision_aligner = SharedResidualAligner(layers, rep_dim, vision, rank)
        self.text_aligner = SharedResidualAligner(layers, rep_dim, text, rank)
        self.projection_A = nn.Parameter(low_rank_start(vision, settings.proj_lora_dim))
        self.projection_B = nn.Parameter(torch.zeros(settings.proj_lora_dim, clip.embed_dim))


def low_rank_start(rows: int, rank: int) -> Tensor:
    """The start of a factor A (rows, rank); its partner B starts at zero."""
    return nn.init.kaiming_uniform_(torch.empty(rows, rank), a=math.sqrt(5))


class MMRLPlusMethod(MMRLMethod):
    """MMRL's method with blended tokens and a low-rank change of CLIP's projection."""

    Settings, Learner = MMRLPlusSettings, SharedRepresentationLearner
    settings: MMRLPlusSettings

    def later_edit(self, tokens: Tensor) -> Edit:
        """A layer's tokens are blended with what the layer below made of the earlier ones."""
        return blend(tokens, self.settings.beta)

    def rep_projection(self) -> Tensor:
        """proj + A B (D, E)."""
        return self.clip.vision_projection + self.learner.projection_A @ self.learner.projection_B


@TRAINER_REGISTRY.register()
class MMRLPlus(MMRL):
    node = "MMRLPLUS"
    Method = MMRLPlusMethod


@TRAINER_REGISTRY.register()
class MMRLpp(MMRLPlus):
    """The public code's name for `MMRLPlus`, and for its config node."""

    alias = "MMRLpp"
