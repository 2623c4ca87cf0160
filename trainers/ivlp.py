"""IVLP: independent vision-language prompting, deep prompts in both towers.

The uncoupled baseline of MaPLe (arXiv 2210.03117) and the architecture of PromptSRC
(arXiv 2307.06948). Learned tokens stand in front of the class name and behind the patches, in
the input of each tower and, afresh, before each of its lower layers; the two towers share
nothing. With no vision tokens (N_CTX_VISION or PROMPT_DEPTH_VISION 0) the text tower alone is
prompted; the vision tower alone is VPT (`trainers.vpt`).

Trained: the tokens of both towers. Unseen classes: the learned tokens in front of their names.

    K tokens, J prompted layers, D width of a tower, E joint space
    f    feature of an image      w    text feature of a class
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP
from training.learned_context import (
    DEEP_INIT,
    DEPTH,
    N_CTX,
    Context,
    ContextSettings,
    check_depth,
    deep_context,
    random_tokens,
    text_edits,
    vision_edits,
)
from training.method import Method, cosine_logits, normalize
from training.settings import WORDS, MethodSettings, key, whole
from training.trainer import CLIPTrainer

VISION_TOKENS = "tokens of the vision tower (K)"
TEXT_TOKENS = "tokens of the text tower (K); VPT learns vision prompts alone"
VISION_DEPTH = "layers of the vision tower with tokens of their own (J)"


@dataclass(frozen=True)
class VisionSettings(MethodSettings):
    """The keys of prompts in the vision tower, which VPT has alone."""

    least_vision_depth: ClassVar[int] = 1
    n_ctx_vision: int = key(8, whole(1, 1024), VISION_TOKENS, fixed=True)
    prompt_depth_vision: int = key(1, DEPTH, VISION_DEPTH, fixed=True)

    def check(self, clip: FrozenCLIP) -> None:
        super().check(clip)
        depth, least = self.prompt_depth_vision, self.least_vision_depth
        check_depth(depth, clip.vision.layers, self.key("PROMPT_DEPTH_VISION"), clip, least)


@dataclass(frozen=True)
class IVLPSettings(VisionSettings, ContextSettings):
    least_vision_depth: ClassVar[int] = 0
    n_ctx_vision: int = key(2, whole(0, 1024), f"{VISION_TOKENS}; 0: none", fixed=True)
    n_ctx_text: int = key(2, N_CTX, TEXT_TOKENS, fixed=True)
    ctx_init: str = key("a photo of a", WORDS, DEEP_INIT.format("N_CTX_TEXT"), fixed=True)
    prompt_depth_vision: int = key(9, DEPTH, f"{VISION_DEPTH}; 0: none", fixed=True)
    prompt_depth_text: int = key(
        9, DEPTH, "layers of the text tower with tokens of their own (J)", fixed=True
    )

    @property
    def context(self) -> Context:
        return deep_context(self.ctx_init, self.n_ctx_text)

    def check(self, clip: FrozenCLIP) -> None:
        super().check(clip)
        check_depth(self.prompt_depth_text, clip.text.layers, self.key("PROMPT_DEPTH_TEXT"), clip)


class VisionPrompts(nn.Module):
    """The learned tokens of the vision tower (J, K, D); None if J or K is 0."""

    def __init__(self, settings: VisionSettings, clip: FrozenCLIP):
        super().__init__()
        layers, count = settings.prompt_depth_vision, settings.n_ctx_vision
        tokens = random_tokens(layers, count, clip.vision.width)
        self.vision_tokens = nn.Parameter(tokens) if tokens.numel() else None


class IndependentPrompts(VisionPrompts):
    """Everything IVLP trains: the vision tower's tokens and the text tower's (J, K, D)."""

    def __init__(self, settings: IVLPSettings, clip: FrozenCLIP):
        super().__init__(settings, clip)
        context, layers = settings.context, settings.prompt_depth_text
        deeper = random_tokens(layers - 1, context.count, clip.text.width)
        self.text_tokens = nn.Parameter(torch.cat([context.start(clip)[None], deeper]))


class IVLPMethod(Method):
    """IVLP's forward pass around a frozen CLIP."""

    Settings: type[MethodSettings] = IVLPSettings
    Learner: type[VisionPrompts] = IndependentPrompts

    def text_features(self) -> Tensor:
        """w (C, E), normalized."""
        tokens_JKD = self.learner.text_tokens.to(self.clip.dtype)
        return normalize(self.clip.text(self.prompts, text_edits(tokens_JKD)))

    def image_features(self, images: Tensor, teacher: bool = False) -> tuple[Tensor, Tensor | None]:
        """f and, for the teacher, the same of the frozen CLIP; each (N, E), normalized."""
        if self.learner.vision_tokens is None:
            f = normalize(self.clip.encode_image(images))
            return f, f if teacher else None
        tokens_JKD = self.learner.vision_tokens.to(self.clip.dtype)
        vision, proj = self.clip.vision, self.clip.vision_projection
        edits = vision_edits(tokens_JKD, at=vision.length)
        edited, plain = vision(images, edits, plain=teacher)
        return normalize(edited[:, 0] @ proj), None if plain is None else normalize(
            plain[:, 0] @ proj
        )

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        f, _ = self.image_features(images)
        return cosine_logits(f, w, self.clip.scale)


@TRAINER_REGISTRY.register()
class IVLP(CLIPTrainer):
    node = "IVLP"
    Method = IVLPMethod
    model_name = "VLPromptLearner"
