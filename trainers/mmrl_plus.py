"""MMRL++: parameter-efficient and interaction-aware representation learning.

IJCV 2026, arXiv 2505.10088. What differs from MMRL (`trainers.mmrl`):

- SRRA, shared-residual representation aligner: the aligners of a tower share one weight W;
  each layer adds only a low-rank residual A_i B_i and a bias.
- PRC, progressive representation composition: a later layer's tokens do not replace what
  the layer below made of the earlier ones but are blended with it, with weight beta.
- The projection of representation features is CLIP's own, frozen, plus a low-rank A B.
"""

import math

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import Edit, FrozenCLIP, Prompts, blend
from trainers.mmrl import MMRL, TOKENS, MMRLMethod
from training.published import PublicNames, PublicTensor


def add_config(cfg: CfgNode) -> None:
    cfg.TRAINER.MMRLPLUS = CfgNode()
    node = cfg.TRAINER.MMRLPLUS
    node.PREC = "amp"  # fp32, amp (autocast) or fp16 (amp, and frozen weights in half)
    node.ALPHA = 0.7  # weight of the class branch in loss and fusion
    node.BETA = 0.5  # weight of a layer's own tokens against those from below
    node.REG_WEIGHT = 0.5  # lambda of the two regularisers towards the frozen CLIP
    node.N_REP_TOKENS = 5  # K
    # Layers with tokens of their own: from 1, or from the top of each tower, where -1 is its last.
    node.REP_LAYERS = [6, 7, 8, 9, 10, 11, 12]
    node.REP_DIM = 512  # width of the shared space
    node.RES_LORA_DIM = 4  # rank of the aligners' residuals
    node.PROJ_LORA_DIM = 64  # rank of the projection's residual
    cfg.TRAINER.MMRLpp = node  # the public code's name for the same node


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

    def __init__(
        self,
        clip: FrozenCLIP,
        layers: int,
        n_tokens: int,
        rep_dim: int,
        res_rank: int,
        proj_rank: int,
    ):
        super().__init__()
        vision, text = clip.vision.width, clip.text.width
        self.rep_tokens = nn.Parameter(0.02 * torch.randn(n_tokens, rep_dim))
        self.vision_aligner = SharedResidualAligner(layers, rep_dim, vision, res_rank)
        self.text_aligner = SharedResidualAligner(layers, rep_dim, text, res_rank)
        self.projection_A = nn.Parameter(low_rank_start(vision, proj_rank))
        self.projection_B = nn.Parameter(torch.zeros(proj_rank, clip.embed_dim))


def low_rank_start(rows: int, rank: int) -> Tensor:
    """The start of a factor A (rows, rank); its partner B starts at zero."""
    return nn.init.kaiming_uniform_(torch.empty(rows, rank), a=math.sqrt(5))


def public_aligner(tower: str, letter: str) -> dict[str, PublicTensor]:
    """Where a public checkpoint has the SRRA of a tower."""
    name = f"representation_learner.srra_r2{letter}proj"
    layer, rank = f"{name}.srra.{{}}", "RES_LORA_DIM"
    return {
        f"{tower}_aligner.weight": PublicTensor(f"{name}.weight", ("", "REP_DIM")),
        f"{tower}_aligner.A": PublicTensor(f"{layer}.A", ("REP_LAYERS", "", rank)),
        f"{tower}_aligner.B": PublicTensor(f"{layer}.B", ("REP_LAYERS", rank, "REP_DIM")),
        f"{tower}_aligner.bias": PublicTensor(f"{layer}.bias", ("REP_LAYERS", "")),
    }


PUBLIC = PublicNames(
    {
        "rep_tokens": PublicTensor(TOKENS, ("N_REP_TOKENS", "REP_DIM")),
        "projection_A": PublicTensor("image_encoder.A", ("", "PROJ_LORA_DIM")),
        "projection_B": PublicTensor("image_encoder.B", ("PROJ_LORA_DIM", "")),
        **public_aligner("vision", "v"),
        **public_aligner("text", "t"),
    }
)
from_public = PUBLIC.from_public


class MMRLPlusMethod(MMRLMethod):
    """MMRL's method with blended tokens and a low-rank change of CLIP's projection."""

    def __init__(self, *mmrl, beta: float):
        super().__init__(*mmrl)
        self.beta = beta

    def later_edit(self, tokens: Tensor) -> Edit:
        """A layer's tokens are blended with what the layer below made of the earlier ones."""
        return blend(tokens, self.beta)

    def rep_projection(self) -> Tensor:
        """proj + A B (D, E)."""
        return self.clip.vision_projection + self.learner.projection_A @ self.learner.projection_B


@TRAINER_REGISTRY.register()
class MMRLPlus(MMRL):
    node = "MMRLPLUS"
    shape_keys = (*MMRL.shape_keys, "RES_LORA_DIM", "PROJ_LORA_DIM")
    public = PUBLIC

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> MMRLPlusMethod:
        node = self.settings
        layers = node.REP_LAYERS
        learner = SharedRepresentationLearner(
            clip,
            len(layers),
            node.N_REP_TOKENS,
            node.REP_DIM,
            res_rank=node.RES_LORA_DIM,
            proj_rank=node.PROJ_LORA_DIM,
        )
        return MMRLPlusMethod(
            clip, prompts, learner, layers, node.ALPHA, node.REG_WEIGHT, beta=node.BETA
        )


@TRAINER_REGISTRY.register()
class MMRLpp(MMRLPlus):
    """The public code's name for `MMRLPlus`."""
