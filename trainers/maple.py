"""MaPLe: multi-modal prompt learning, text prompts that drive the vision prompts.

CVPR 2023, arXiv 2210.03117. Learned tokens stand in front of the class name, in the input of
the text tower and, afresh, before each of its lower layers. A coupling function maps each
layer's text tokens to tokens of the vision tower, where they stand behind the patches.

Trained: the text tokens and the coupling functions. Unseen classes: the learned tokens in front of
their names.

    K tokens, J prompted layers, D width of a tower, E joint space
"""

from dataclasses import dataclass

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
from training.settings import WORDS, key
from training.trainer import CLIPTrainer


@dataclass(frozen=True)
class MaPLeSettings(ContextSettings):
    n_ctx: int = key(2, N_CTX, "tokens (K), in both towers", fixed=True)
    ctx_init: str = key("a photo of a", WORDS, DEEP_INIT.format("N_CTX"), fixed=True)
    prompt_depth: int = key(9, DEPTH, "layers with tokens of their own (J)", fixed=True)

    @property
    def context(self) -> Context:
        return deep_context(self.ctx_init, self.n_ctx)

    def check(self, clip: FrozenCLIP) -> None:
        super().check(clip)
        top = min(clip.vision.layers, clip.text.layers)
        check_depth(self.prompt_depth, top, self.key("PROMPT_DEPTH"), clip)


class Coupling(nn.Module):
    """The text tokens as the vision tower's, an affine map per prompted layer."""

    def __init__(self, layers: int, text_width: int, vision_width: int):
        super().__init__()
        first, deeper = (nn.Linear(text_width, vision_width) for _ in range(2))
        starts = [first, *[deeper] * (layers - 1)]  # the deeper ones start from one draw
        self.weight = nn.Parameter(torch.stack([start.weight.detach() for start in starts]))
        self.bias = nn.Parameter(torch.stack([start.bias.detach() for start in starts]))

    def forward(self, tokens_JKD: Tensor) -> Tensor:
        """(J, K, D of text) -> (J, K, D of vision)."""
        return tokens_JKD @ self.weight.mT + self.bias[:, None]


class CoupledPrompts(nn.Module):
    """Everything MaPLe trains."""

    def __init__(self, settings: MaPLeSettings, clip: FrozenCLIP):
        super().__init__()
        context, layers, width = settings.context, settings.prompt_depth, clip.text.width
        deeper = random_tokens(layers - 1, context.count, width)
        self.text_tokens = nn.Parameter(torch.cat([context.start(clip)[None], deeper]))
        self.coupling = Coupling(layers, width, clip.vision.width)


class MaPLeMethod(Method):
    """MaPLe's forward pass around a frozen CLIP."""

    Settings, Learner = MaPLeSettings, CoupledPrompts

    def text_features(self) -> Tensor:
        """w (C, E), normalized."""
        tokens_JKD = self.learner.text_tokens.to(self.clip.dtype)
        return normalize(self.clip.text(self.prompts, text_edits(tokens_JKD)))

    def image_features(self, images: Tensor) -> Tensor:
        """f (N, E), normalized."""
        tokens_JKD = self.learner.coupling(self.learner.text_tokens).to(self.clip.dtype)
        vision = self.clip.vision
        rows = vision(images, vision_edits(tokens_JKD, at=vision.length)).edited
        return normalize(rows[:, 0] @ self.clip.vision_projection)

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(self.image_features(images), w, self.clip.scale)


@TRAINER_REGISTRY.register()
class MaPLe(CLIPTrainer):
    node = "MAPLE"
    Method = MaPLeMethod
    model_name = "MultiModalPromptLearner"
