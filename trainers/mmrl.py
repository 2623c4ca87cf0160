"""MMRL: Multi-Modal Representation Learning for vision-language models.

CVPR 2025, arXiv 2503.08497. K space tokens R that belong to neither modality are mapped
into both encoders of a frozen CLIP, into the upper layers only, where they learn the task
while the class and end-of-text tokens keep CLIP's general knowledge, held to it by a
regularizer. Classes seen in training are answered by both kinds of token, unseen ones by
the class token alone.

Trained: R, the aligners F_v, F_t (one affine map per edited layer) and P_r. Unseen classes: the
class token's feature alone.

    f    class feature of an image       w    text feature of a class
    f_r  representation feature          f0, w0  the same of the frozen CLIP
    K tokens, J edited layers, R_dim width of R, D width of a tower, E joint space
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import Edit, Edits, FrozenCLIP, insert, overwrite
from frozen_clip.text import TextTower
from frozen_clip.vision import VisionTower
from training.method import Method, cosine_logits, normalize
from training.settings import SHARE, WEIGHT, MethodSettings, any_value, key, precision, whole
from training.trainer import CLIPTrainer

SCALE = 100.0  # the paper's constant temperature, not CLIP's logit_scale
LAYERS = any_value("an increasing list of layers that both towers have")


@dataclass(frozen=True)
class MMRLSettings(MethodSettings):
    prec: str = precision("amp")
    alpha: float = key(0.7, SHARE, "weight of the class branch in loss and fusion")
    reg_weight: float = key(0.5, WEIGHT, "lambda of the two regularizers towards the frozen CLIP")
    n_rep_tokens: int = key(5, whole(1, 1024), "space tokens (K)", fixed=True)
    rep_layers: tuple[int, ...] = key(
        tuple(range(6, 13)),
        LAYERS,
        "with tokens of their own: from 1, or from the top of each tower, where -1 is its last",
        fixed=True,
    )
    rep_dim: int = key(512, whole(1, 2**16), "width of the shared space (R_dim)", fixed=True)

    def check(self, clip: FrozenCLIP) -> None:
        super().check(clip)
        check_rep_layers(self.rep_layers, clip, self.key("REP_LAYERS"))


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

    def __init__(self, settings: MMRLSettings, clip: FrozenCLIP):
        super().__init__()
        layers, rep_dim, width = len(settings.rep_layers), settings.rep_dim, clip.vision.width
        self.rep_tokens = nn.Parameter(0.02 * torch.randn(settings.n_rep_tokens, rep_dim))
        self.vision_aligner = Aligner(layers, rep_dim, width)
        self.text_aligner = Aligner(layers, rep_dim, clip.text.width)
        self.rep_projection = nn.Parameter(width**-0.5 * torch.randn(width, clip.embed_dim))


class Logits(NamedTuple):
    """Each (N, C)."""

    class_token: Tensor
    representation: Tensor
    fused: Tensor


class Outputs(NamedTuple):
    """Of a training forward; features are normalized."""

    logits: Logits
    f: Tensor  # (N, E)
    w: Tensor  # (C, E)
    f0: Tensor  # (N, E)


class MMRLMethod(Method):
    """MMRL's forward pass, loss and logits around a frozen CLIP."""

    Settings: type[MethodSettings] = MMRLSettings
    Learner: type[nn.Module] = RepresentationLearner
    settings: MMRLSettings
    w0: Tensor

    def prepare(self, classnames: Sequence[str]) -> None:
        self.register_buffer("w0", normalize(self.clip.encode_text(self.prompts)), persistent=False)

    def edits(self, tokens_JKD: Tensor, tower: TextTower | VisionTower) -> Edits:
        """Insert before the first of the layers, and `later_edit` before each later one."""
        first, *later = tokens_JKD.to(self.clip.dtype)
        edits = [insert(first), *map(self.later_edit, later)]
        return dict(zip(layers_of(self.settings.rep_layers, tower), edits, strict=True))

    def later_edit(self, tokens: Tensor) -> Edit:
        """A layer's tokens replace what the layer below made of the earlier ones."""
        return overwrite(tokens)

    def rep_projection(self) -> Tensor:
        """P_r (D, E)."""
        return self.learner.rep_projection

    def text_features(self) -> Tensor:
        """w (C, E), normalized."""
        tokens_JKD = self.learner.text_aligner(self.learner.rep_tokens)
        edits = self.edits(tokens_JKD, self.clip.text)
        return normalize(self.clip.text(self.prompts, edits))

    def image_features(
        self, images: Tensor, teacher: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """f, f_r and, for the teacher, f0; each (N, E), normalized."""
        tokens_JKD = self.learner.vision_aligner(self.learner.rep_tokens)
        rows = 1 + tokens_JKD.shape[1]
        edits = self.edits(tokens_JKD, self.clip.vision)
        edited_NRD, plain_N1D = self.clip.vision(images, edits, rows, plain=teacher)  # R = 1 + K
        proj_DE = self.clip.vision_projection
        f = normalize(edited_NRD[:, 0] @ proj_DE)
        f_r = normalize(edited_NRD[:, 1:].mean(dim=1) @ self.rep_projection())
        return f, f_r, None if plain_N1D is None else normalize(plain_N1D[:, 0] @ proj_DE)

    def logits(self, f: Tensor, f_r: Tensor, w: Tensor) -> Logits:
        class_token = cosine_logits(f, w, SCALE)  # (N, C)
        representation = cosine_logits(f_r, w, SCALE)  # (N, C)
        alpha = self.settings.alpha
        fused = alpha * class_token + (1 - alpha) * representation
        return Logits(class_token, representation, fused)

    def forward(self, images: Tensor) -> Outputs:
        """A training forward of normalized images (N, 3, H, W)."""
        w = self.text_features()
        f, f_r, f0 = self.image_features(images, teacher=True)
        assert f0 is not None  # the teacher's
        return Outputs(self.logits(f, f_r, w), f, w, f0)

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the paper's loss, weighted: their sum is L."""
        logits, f, w, f0 = outputs
        alpha, reg_weight = self.settings.alpha, self.settings.reg_weight
        return {
            "ce_class": alpha * F.cross_entropy(logits.class_token, labels),
            "ce_rep": (1 - alpha) * F.cross_entropy(logits.representation, labels),
            "reg_image": reg_weight * (1 - (f * f0).sum(dim=1).mean()),
            "reg_text": reg_weight * (1 - (w * self.w0).sum(dim=1).mean()),
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
        return {"scale": SCALE, "alpha": self.settings.alpha, "logits": f"{fused}: both branches"}


@TRAINER_REGISTRY.register()
class MMRL(CLIPTrainer):
    node = "MMRL"
    Method = MMRLMethod
    model_name = "MultiModalRepresentationLearner"
    needs_task = True


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
