"""MMRL: Multi-Modal Representation Learning for vision-language models.

CVPR 2025, arXiv 2503.08497. K space tokens R that belong to neither modality are mapped
into both encoders of a frozen CLIP, into the upper layers only, where they learn the task
while the class and end-of-text tokens keep CLIP's general knowledge, held to it by a
regulariser. Classes seen in training are answered by both kinds of token, unseen ones by
the class token alone.

Trained: R, the aligners F_v, F_t (one affine map per edited layer) and P_r.

    f    class feature of an image       w    text feature of a class
    f_r  representation feature          f0, w0  the same of the frozen CLIP
    K tokens, J edited layers, R_dim width of R, D width of a tower, E joint space
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import Edit, Edits, FrozenCLIP, Prompts, insert, overwrite
from frozen_clip.text import TextTower
from frozen_clip.vision import VisionTower
from training.method import Method, cosine_logits, normalize
from training.published import PublicNames, PublicTensor
from training.trainer import CLIPTrainer

SCALE = 100.0  # the paper's constant temperature, not CLIP's logit_scale


def add_config(cfg: CfgNode) -> None:
    cfg.TRAINER.MMRL = CfgNode()
    node = cfg.TRAINER.MMRL
    node.PREC = "amp"  # fp32, amp (autocast) or fp16 (amp, and frozen weights in half)
    node.ALPHA = 0.7  # weight of the class branch in loss and fusion
    node.REG_WEIGHT = 0.5  # lambda of the two regularisers towards the frozen CLIP
    node.N_REP_TOKENS = 5  # K
    # Layers with tokens of their own: from 1, or from the top of each tower, where -1 is its last.
    node.REP_LAYERS = [6, 7, 8, 9, 10, 11, 12]
    node.REP_DIM = 512  # width of the shared space


class Aligner(nn.Module):
    """F: the space tokens as one tower's tokens, an affine map per edited layer."""

    def __init__(self, layers: int, rep_dim: int, width: int):
        super().__init__()
        start = nn.Linear(rep_dim, width)  # all layers start from one draw
        self.weight = nn.Parameter(start.weight.detach().repeat(layers, 1, 1))
        self.bias = nn.Parameter(start.bias.detach().repeat(layers, 1))

    def forward(self, rep_tokens: Tensor) -> Tensor:
        """R (K, R_dim) -> tokens for each layer (J, K, D)."""
        return rep_tokens @ self.weight.mT + self.bias[:, None]


class RepresentationLearner(nn.Module):
    """Everything MMRL trains."""

    def __init__(self, clip: FrozenCLIP, layers: int, n_tokens: int, rep_dim: int):
        super().__init__()
        self.rep_tokens = nn.Parameter(0.02 * torch.randn(n_tokens, rep_dim))
        self.vision_aligner = Aligner(layers, rep_dim, clip.vision.width)
        self.text_aligner = Aligner(layers, rep_dim, clip.text.width)
        width = clip.vision.width
        self.rep_projection = nn.Parameter(width**-0.5 * torch.randn(width, clip.embed_dim))


TOKENS = "representation_learner.compound_rep_tokens"  # R in a public checkpoint
PUBLIC = PublicNames(
    {
        "rep_tokens": PublicTensor(TOKENS, ("N_REP_TOKENS", "REP_DIM")),
        "rep_projection": PublicTensor("image_encoder.proj_rep", ("", "")),
        "vision_aligner.weight": PublicTensor(
            f"{TOKENS}_r2vproj.{{}}.weight", ("REP_LAYERS", "", "REP_DIM")
        ),
        "vision_aligner.bias": PublicTensor(f"{TOKENS}_r2vproj.{{}}.bias", ("REP_LAYERS", "")),
        "text_aligner.weight": PublicTensor(
            f"{TOKENS}_r2tproj.{{}}.weight", ("REP_LAYERS", "", "REP_DIM")
        ),
        "text_aligner.bias": PublicTensor(f"{TOKENS}_r2tproj.{{}}.bias", ("REP_LAYERS", "")),
    }
)
from_public = PUBLIC.from_public


class Logits(NamedTuple):
    """Each (N, C)."""

    class_token: Tensor
    representation: Tensor
    fused: Tensor


class Outputs(NamedTuple):
    """Of a training forward; features are normalised."""

    logits: Logits
    f: Tensor  # (N, E)
    w: Tensor  # (C, E)
    f0: Tensor  # (N, E)


class MMRLMethod(Method):
    """MMRL's forward pass, loss and answer around a frozen CLIP."""

    def __init__(
        self,
        clip: FrozenCLIP,
        prompts: Prompts,
        learner: nn.Module,
        rep_layers: Sequence[int],
        alpha: float,
        reg_weight: float,
    ):
        super().__init__(clip, learner)
        self.prompts = prompts
        self.rep_layers = list(rep_layers)
        self.alpha = alpha
        self.reg_weight = reg_weight
        self.register_buffer("w0", normalize(clip.encode_text(prompts)), persistent=False)

    def edits(self, tokens_JKD: Tensor, tower: TextTower | VisionTower) -> Edits:
        """Insert before the first of the layers, and `later_edit` before each later one."""
        first, *later = tokens_JKD.to(self.clip.dtype)
        edits = [insert(first), *map(self.later_edit, later)]
        return dict(zip(layers_of(self.rep_layers, tower), edits, strict=True))

    def later_edit(self, tokens: Tensor) -> Edit:
        """A layer's tokens replace what the layer below made of the earlier ones."""
        return overwrite(tokens)

    def rep_projection(self) -> Tensor:
        """P_r (D, E)."""
        return self.learner.rep_projection

    def text_features(self) -> Tensor:
        """w (C, E), normalised."""
        tokens_JKD = self.learner.text_aligner(self.learner.rep_tokens)
        edits = self.edits(tokens_JKD, self.clip.text)
        return normalize(self.clip.text(self.prompts, edits))

    def image_features(
        self, images: Tensor, teacher: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """f, f_r and, for the teacher, f0; each (N, E), normalised."""
        tokens_JKD = self.learner.vision_aligner(self.learner.rep_tokens)
        rows = 1 + tokens_JKD.shape[1]
        edits = self.edits(tokens_JKD, self.clip.vision)
        edited, plain = self.clip.vision(images, edits, rows, plain=teacher)
        proj = self.clip.vision_projection
        f = normalize(edited[:, 0] @ proj)
        f_r = normalize(edited[:, 1:].mean(dim=1) @ self.rep_projection())
        return f, f_r, normalize(plain[:, 0] @ proj) if teacher else None

    def logits(self, f: Tensor, f_r: Tensor, w: Tensor) -> Logits:
        class_token = cosine_logits(f, w, SCALE)
        representation = cosine_logits(f_r, w, SCALE)
        fused = self.alpha * class_token + (1 - self.alpha) * representation
        return Logits(class_token, representation, fused)

    def forward(self, images: Tensor) -> Outputs:
        """A training forward of normalised images (N, 3, H, W)."""
        w = self.text_features()
        f, f_r, f0 = self.image_features(images, teacher=True)
        return Outputs(self.logits(f, f_r, w), f, w, f0)

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the paper's loss, weighted: their sum is L."""
        logits, f, w, f0 = outputs
        return {
            "ce_class": self.alpha * F.cross_entropy(logits.class_token, labels),
            "ce_rep": (1 - self.alpha) * F.cross_entropy(logits.representation, labels),
            "reg_image": self.reg_weight * (1 - (f * f0).sum(dim=1).mean()),
            "reg_text": self.reg_weight * (1 - (w * self.w0).sum(dim=1).mean()),
        }

    def training_logits(self, outputs: Outputs) -> Tensor:
        return outputs.logits.fused

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        """Decoupled inference: `fused` for seen classes, the class token alone for others."""
        f, f_r, _ = self.image_features(images)
        logits = self.logits(f, f_r, w)
        return logits.fused if seen else logits.class_token

    def describe(self, seen: bool) -> dict[str, object]:
        if not seen:
            return {"scale": SCALE, "logits": "scale * (f @ w.T): the class token alone"}
        fused = "alpha * scale * (f @ w.T) + (1 - alpha) * scale * (f_r @ w.T)"
        return {"scale": SCALE, "alpha": self.alpha, "logits": f"{fused}: both branches"}


@TRAINER_REGISTRY.register()
class MMRL(CLIPTrainer):
    node = "MMRL"
    model_name = "MultiModalRepresentationLearner"
    shape_keys = ("N_REP_TOKENS", "REP_LAYERS", "REP_DIM")
    needs_task = True
    public = PUBLIC

    def check_learner(self, clip: FrozenCLIP) -> None:
        super().check_learner(clip)
        check_rep_layers(self.settings.REP_LAYERS, clip, f"TRAINER.{self.node}.REP_LAYERS")

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> MMRLMethod:
        node = self.settings
        layers = node.REP_LAYERS
        learner = RepresentationLearner(clip, len(layers), node.N_REP_TOKENS, node.REP_DIM)
        return MMRLMethod(clip, prompts, learner, layers, node.ALPHA, node.REG_WEIGHT)


def layers_of(rep_layers: Sequence[int], tower: TextTower | VisionTower) -> list[int]:
    """Which layers of a tower they are, from 1: numbers below 0 are counted from its top."""
    return [layer if layer > 0 else tower.layers + 1 + layer for layer in rep_layers]


def check_rep_layers(layers: Sequence[int], clip: FrozenCLIP, key: str) -> None:
    """ValueError unless the layers exist in both towers and increase.

    Where one tower is much deeper, its layers with the other's numbers are not its upper ones, so
    they must be counted from the top.
    """
    layers, depths = list(layers), (clip.vision.layers, clip.text.layers)
    top = min(depths)
    from_top = max(depths) - top > 1 or all(isinstance(i, int) and i < 0 for i in layers)
    first, last = (-top, -1) if from_top and layers else (1, top)
    in_range = all(isinstance(i, int) and first <= i <= last for i in layers)
    if not layers or not in_range or layers != sorted(set(layers)):
        how = ", counted from the top of each tower" if first < 0 else ""
        raise ValueError(
            f"{key} is {layers}; allowed for {clip.name} is an increasing list of at least one "
            f"layer from {first} to {last} (vision has {depths[0]}, text {depths[1]} layers){how}, "
            f"for example {list(range((first + last + 1) // 2, last + 1))}"
        )
