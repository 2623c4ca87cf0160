"""MaPLe: multi-modal prompt learning, text prompts that drive the vision prompts.

CVPR 2023, arXiv 2210.03117. Learned tokens stand in front of the class name, in the input of
the text tower and, afresh, before each of its lower layers. A coupling function maps each
layer's text tokens to tokens of the vision tower, where they stand behind the patches.

Trained: the text tokens and the coupling functions.

    K tokens, J prompted layers, D width of a tower, E joint space
"""

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Prompts
from training.learned_context import (
    MOST_WORDS,
    Context,
    check_depth,
    random_tokens,
    text_edits,
    vision_edits,
)
from training.method import Method, cosine_logits, normalize
from training.published import PublicNames, PublicTensor
from training.trainer import CLIPTrainer


def add_config(cfg: CfgNode) -> None:
    cfg.TRAINER.MAPLE = CfgNode()
    node = cfg.TRAINER.MAPLE
    node.PREC = "fp16"  # fp32, amp (autocast) or fp16 (amp, and frozen weights in half)
    node.N_CTX = 2  # K, in both towers
    # What the prompts say; its first N_CTX words are where the text tokens of the input start,
    # the rest stays. Empty, or N_CTX above 4: the tokens start at random.
    node.CTX_INIT = "a photo of a"
    node.PROMPT_DEPTH = 9  # J: layers, counted from the input, with tokens of their own


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

    def __init__(self, clip: FrozenCLIP, context: Context, layers: int):
        super().__init__()
        width = clip.text.width
        deeper = random_tokens(layers - 1, context.count, width)
        self.text_tokens = nn.Parameter(torch.cat([context.start(clip)[None], deeper]))
        self.coupling = Coupling(layers, width, clip.vision.width)


COUPLING = "prompt_learner.compound_prompt_projections.{}"
PUBLIC = PublicNames(
    {
        "text_tokens": PublicTensor(
            "prompt_learner.compound_prompts_text.{}",
            ("PROMPT_DEPTH", "N_CTX", ""),
            first="prompt_learner.ctx",
        ),
        "coupling.weight": PublicTensor(
            f"{COUPLING}.weight", ("PROMPT_DEPTH", "", ""), first="prompt_learner.proj.weight"
        ),
        "coupling.bias": PublicTensor(
            f"{COUPLING}.bias", ("PROMPT_DEPTH", ""), first="prompt_learner.proj.bias"
        ),
    }
)
from_public = PUBLIC.from_public


class MaPLeMethod(Method):
    """MaPLe's forward pass around a frozen CLIP."""

    def __init__(self, clip: FrozenCLIP, prompts: Prompts, learner: nn.Module):
        super().__init__(clip, learner)
        self.prompts = prompts

    def text_features(self) -> Tensor:
        """w (C, E), normalised."""
        tokens_JKD = self.learner.text_tokens.to(self.clip.dtype)
        return normalize(self.clip.text(self.prompts, text_edits(tokens_JKD)))

    def image_features(self, images: Tensor) -> Tensor:
        """f (N, E), normalised."""
        tokens_JKD = self.learner.coupling(self.learner.text_tokens).to(self.clip.dtype)
        vision = self.clip.vision
        rows = vision(images, vision_edits(tokens_JKD, at=vision.length)).edited
        return normalize(rows[:, 0] @ self.clip.vision_projection)

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(self.image_features(images), w, self.clip.scale)


@TRAINER_REGISTRY.register()
class MaPLe(CLIPTrainer):
    node = "MAPLE"
    model_name = "MultiModalPromptLearner"
    shape_keys = ("N_CTX", "CTX_INIT", "PROMPT_DEPTH")
    public = PUBLIC

    @property
    def context(self) -> Context:
        node = self.settings
        return Context(node.CTX_INIT if node.N_CTX <= MOST_WORDS else "", node.N_CTX)

    @property
    def template(self) -> str:
        return self.context.template

    def check_learner(self, clip: FrozenCLIP) -> None:
        super().check_learner(clip)
        self.context.check(clip)
        top = min(clip.vision.layers, clip.text.layers)
        check_depth(self.settings.PROMPT_DEPTH, top, "TRAINER.MAPLE.PROMPT_DEPTH", clip)

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> MaPLeMethod:
        learner = CoupledPrompts(clip, self.context, self.settings.PROMPT_DEPTH)
        return MaPLeMethod(clip, prompts, learner)
