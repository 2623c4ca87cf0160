"""CLIP-LoRA: low-rank terms in the attention of both towers.

CVPRW 2024, arXiv 2405.18541. Beside the frozen projections of the attention, to queries, keys,
values or of the output, stand products of two small matrices, in all layers or in a part of them.
In training each of them reads its input through a dropout of its own. Logits have the constant
scale 100, prompts are 'a photo of a NAME.' for every dataset.

Trained: the low-rank matrices A and B, B from zero.

Unseen classes: answered like the others, by the adapted towers.

    r rank, J adapted layers of both towers, D width of a tower, E joint space
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Inside, Insides, Prompts
from frozen_clip import prompts as prompting
from training.method import Method, cosine_logits, normalize
from training.settings import (
    YES_NO,
    Allowed,
    MethodSettings,
    key,
    number,
    one_of,
    precision,
    whole,
)
from training.trainer import CLIPTrainer

SCALE = 100.0  # of the logits, whatever CLIP has learned
PARTS = {  # (k, n): the k-th of n equal parts of a tower's layers
    **{"all": (1, 1), "bottom": (1, 3), "mid": (2, 3), "up": (3, 3)},
    **{"half-bottom": (1, 2), "half-up": (2, 2)},
}
POSITIONS = (*PARTS, "top3")
PROJECTIONS = Allowed(
    "a list of some of q, k, v, o, each once",
    lambda v: len(v) > 0 and set(v) <= set("qkvo") and len(set(v)) == len(v),
    ("q", "k", "v", "o"),
)
BELOW_1 = Allowed("a number from 0 and below 1", lambda v: number(0, 1).test(v) and v < 1)


@dataclass(frozen=True)
class CLIPLoRASettings(MethodSettings):
    prec: str = precision("amp")
    n_iters: int = key(
        500, whole(0, 10**6), "steps of training for each shot; 0: OPTIM.MAX_EPOCH decides"
    )
    position: str = key(
        "all",
        one_of(POSITIONS),
        "which layers of a tower: all, a third, a half, or the last three",
        fixed=True,
    )
    encoder: str = key(
        "both", one_of(("both", "vision", "text")), "which towers; the other is frozen", fixed=True
    )
    params: tuple[str, ...] = key(
        ("q", "k", "v"), PROJECTIONS, "projections with a term; o: of the output", fixed=True
    )
    r: int = key(2, whole(1, 1024), "rank of the terms", fixed=True)
    alpha: float = key(
        1.0, number(0, 1e6, open_low=True), "a term is multiplied by ALPHA / sqrt(R)", fixed=True
    )
    dropout_rate: float = key(0.25, BELOW_1, "share of a term's input that is 0 in training")
    shared_masks: bool = key(
        True,
        YES_NO,
        "with dropout, the words that prompts begin with are computed once for all classes, under "
        "one mask; False: each class has masks of its own for them, as in the published code",
    )

    @property
    def template(self) -> str:
        return "a photo of a {}."

    def step_budget(self, shots: int) -> int:
        return self.n_iters * max(shots, 0)

    def layers(self, clip: FrozenCLIP) -> tuple[range, range]:
        """The adapted layers of the text tower and of the vision tower, counted from 1."""
        text = self.encoder != "vision" and layers_at(self.position, clip.text.layers)
        vision = self.encoder != "text" and layers_at(self.position, clip.vision.layers)
        return text or range(0), vision or range(0)

    def check(self, clip: FrozenCLIP) -> None:
        for name, layers in zip(("text", "vision"), self.layers(clip), strict=True):
            if layers or self.encoder not in (name, "both"):
                continue
            depth = getattr(clip, name).layers
            allowed = ", ".join(each for each in POSITIONS if layers_at(each, depth))
            raise ValueError(
                f"{self.key('POSITION')} is {self.position}, but the {name} tower of {clip.name} "
                f"has {depth} layers, which have no such part; it has: {allowed}"
            )


def layers_at(position: str, depth: int) -> range:
    """The layers of a position in a tower of `depth` layers, as the published code names them for
    12; none where `depth` cannot be divided so."""
    if position == "top3":
        return range(depth - 2, depth + 1) if depth >= 3 else range(0)
    which, parts = PARTS[position]
    size, rest = divmod(depth, parts)
    return range(0) if rest else range((which - 1) * size + 1, which * size + 1)


class LowRank(nn.Module):
    """`ALPHA / sqrt(R) * B A dropout(h)`, the term beside one projection; B starts as zero."""

    def __init__(self, settings: CLIPLoRASettings, width: int):
        super().__init__()
        self.scale = settings.alpha / math.sqrt(settings.r)
        self.A = nn.Parameter(torch.empty(settings.r, width))
        self.B = nn.Parameter(torch.zeros(width, settings.r))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        rate = settings.dropout_rate
        self.dropout = nn.Dropout(rate) if rate else nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.linear(self.scale * F.linear(self.dropout(h), self.A), self.B)


class LowRankTerms(nn.Module):
    """Everything CLIP-LoRA trains: for each adapted layer, those of text first, its terms."""

    def __init__(self, settings: CLIPLoRASettings, clip: FrozenCLIP):
        super().__init__()
        text, vision = settings.layers(clip)
        widths = [clip.text.width] * len(text)
        if vision:
            widths += [clip.vision.width] * len(vision)
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: LowRank(settings, width) for name in settings.params})
            for width in widths
        )


class CLIPLoRAMethod(Method):
    """CLIP with low-rank terms in its attention.

    In training, dropout would give each class other states of the words that all prompts begin
    with. SHARED_MASKS computes these once, under one mask for all classes: another estimate of the
    same loss. Without dropout, and in every test, sharing is exact.
    """

    Settings, Learner = CLIPLoRASettings, LowRankTerms
    settings: CLIPLoRASettings

    def prepare(self, classnames: Sequence[str]) -> None:
        # what training reads where each class has masks of its own: prompts that share nothing
        self.apart = prompting.build(self.prompts.ids_CL, longest_prefix=0)

    def insides(self) -> tuple[Insides, Insides]:
        """The terms of the text tower and of the vision tower."""
        text, vision = self.settings.layers(self.clip)
        terms = [Inside(terms=dict(layer.items())) for layer in self.learner.layers]
        of_text, of_vision = terms[: len(text)], terms[len(text) :]
        return dict(zip(text, of_text, strict=True)), dict(zip(vision, of_vision, strict=True))

    def prompts_now(self) -> Prompts:
        drops = self.learner.training and self.settings.dropout_rate > 0
        return self.apart if drops and not self.settings.shared_masks else self.prompts

    def text_features(self) -> Tensor:
        """w (C, E), normalized."""
        return normalize(self.clip.text(self.prompts_now(), insides=self.insides()[0]))

    def image_features(self, images: Tensor) -> Tensor:
        """f (N, E), normalized."""
        insides = self.insides()[1]
        if not insides:
            return normalize(self.clip.encode_image(images))
        rows = self.clip.vision(images, insides=insides).edited
        return normalize(rows[:, 0] @ self.clip.vision_projection)

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(self.image_features(images), w, SCALE)

    def describe(self, seen: bool) -> dict[str, object]:
        return {**super().describe(seen), "scale": SCALE}


@TRAINER_REGISTRY.register()
class CLIPLoRA(CLIPTrainer):
    node = "CLIPLORA"
    Method = CLIPLoRAMethod
    model_name = "lora"
    settings: CLIPLoRASettings

    def check_cfg(self, cfg: CfgNode) -> None:
        """ValueError for a dropout that is to be compiled: its masks would differ from those of the
        first step, which is computed both ways."""
        super().check_cfg(cfg)
        if cfg.TRAIN.COMPILE and cfg.TRAINER[self.node].DROPOUT_RATE:
            raise ValueError(
                f"TRAIN.COMPILE is True, but a step with dropout cannot be held to the uncompiled "
                f"one: set it to False, or TRAINER.{self.node}.DROPOUT_RATE to 0"
            )
