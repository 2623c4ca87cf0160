"""IVLP: independent vision-language prompting, deep prompts in both towers.

The uncoupled baseline of MaPLe (arXiv 2210.03117) and the architecture of PromptSRC
(arXiv 2307.06948). Learned tokens stand in front of the class name and behind the patches, in
the input of each tower and, afresh, before each of its lower layers; the two towers share
nothing. With no vision tokens (N_CTX_VISION or PROMPT_DEPTH_VISION 0) the text tower alone is
prompted; the vision tower alone is VPT (`trainers.vpt`).

Trained: the tokens of both towers.

    K tokens, J prompted layers, D width of a tower, E joint space
    f    feature of an image      w    text feature of a class
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
    cfg.TRAINER.IVLP = CfgNode()
    node = cfg.TRAINER.IVLP
    node.PREC = "fp16"  # fp32, amp (autocast) or fp16 (amp, and frozen weights in half)
    node.N_CTX_VISION = 2  # K of the vision tower; 0: no tokens there
    node.N_CTX_TEXT = 2  # K of the text tower
    # What the prompts say; its first N_CTX_TEXT words are where the text tokens of the input
    # start, the rest stays. Empty, or N_CTX_TEXT above 4: the tokens start at random.
    node.CTX_INIT = "a photo of a"
    node.PROMPT_DEPTH_VISION = 9  # J of the vision tower, counted from the input; 0: no tokens
    node.PROMPT_DEPTH_TEXT = 9  # J of the text tower


class VisionPrompts(nn.Module):
    """The learned tokens of the vision tower (J, K, D); None if J or K is 0."""

    def __init__(self, clip: FrozenCLIP, layers: int, count: int):
        super().__init__()
        tokens = random_tokens(layers, count, clip.vision.width)
        self.vision_tokens = nn.Parameter(tokens) if tokens.numel() else None


class IndependentPrompts(VisionPrompts):
    """Everything IVLP trains: the vision tower's tokens and the text tower's (J, K, D)."""

    def __init__(
        self,
        clip: FrozenCLIP,
        context: Context,
        text_layers: int,
        vision_layers: int,
        vision_count: int,
    ):
        super().__init__(clip, vision_layers, vision_count)
        deeper = random_tokens(text_layers - 1, context.count, clip.text.width)
        self.text_tokens = nn.Parameter(torch.cat([context.start(clip)[None], deeper]))


VISION_TOKENS = PublicTensor(
    "image_encoder.transformer.resblocks.{}.VPT_shallow",
    ("PROMPT_DEPTH_VISION", "N_CTX_VISION", ""),
    first="image_encoder.VPT",
    start=1,
)
TEXT_TOKENS = PublicTensor(
    "text_encoder.transformer.resblocks.{}.VPT_shallow",
    ("PROMPT_DEPTH_TEXT", "N_CTX_TEXT", ""),
    first="prompt_learner.ctx",
    start=1,
)
PUBLIC = PublicNames({"text_tokens": TEXT_TOKENS, "vision_tokens": VISION_TOKENS})
TEXT_ALONE = PublicNames({"text_tokens": TEXT_TOKENS}, without=(VISION_TOKENS,))
from_public = PUBLIC.from_public


class IVLPMethod(Method):
    """IVLP's forward pass around a frozen CLIP."""

    def __init__(self, clip: FrozenCLIP, prompts: Prompts, learner: nn.Module):
        super().__init__(clip, learner)
        self.prompts = prompts

    def text_features(self) -> Tensor:
        """w (C, E), normalised."""
        tokens_JKD = self.learner.text_tokens.to(self.clip.dtype)
        return normalize(self.clip.text(self.prompts, text_edits(tokens_JKD)))

    def image_features(self, images: Tensor, teacher: bool = False) -> tuple[Tensor, Tensor | None]:
        """f and, for the teacher, the same of the frozen CLIP; each (N, E), normalised."""
        if self.learner.vision_tokens is None:
            f = normalize(self.clip.encode_image(images))
            return f, f if teacher else None
        tokens_JKD = self.learner.vision_tokens.to(self.clip.dtype)
        vision, proj = self.clip.vision, self.clip.vision_projection
        edits = vision_edits(tokens_JKD, at=vision.length)
        edited, plain = vision(images, edits, plain=teacher)
        return normalize(edited[:, 0] @ proj), normalize(plain[:, 0] @ proj) if teacher else None

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        f, _ = self.image_features(images)
        return cosine_logits(f, w, self.clip.scale)


@TRAINER_REGISTRY.register()
class IVLP(CLIPTrainer):
    node = "IVLP"
    model_name = "VLPromptLearner"
    public = PUBLIC
    public_variants: tuple[PublicNames, ...] = (TEXT_ALONE,)
    least_vision_depth = 0
    shape_keys = (
        "N_CTX_VISION",
        "N_CTX_TEXT",
        "CTX_INIT",
        "PROMPT_DEPTH_VISION",
        "PROMPT_DEPTH_TEXT",
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        node = cfg.TRAINER[self.node]
        if not node.N_CTX_VISION or not node.PROMPT_DEPTH_VISION:
            self.public = TEXT_ALONE

    @property
    def context(self) -> Context:
        node = self.settings
        return Context(node.CTX_INIT if node.N_CTX_TEXT <= MOST_WORDS else "", node.N_CTX_TEXT)

    @property
    def template(self) -> str:
        return self.context.template

    def check_learner(self, clip: FrozenCLIP) -> None:
        super().check_learner(clip)
        self.check_depth("VISION", clip.vision.layers, clip, least=self.least_vision_depth)
        self.check_depth("TEXT", clip.text.layers, clip)
        self.context.check(clip)

    def check_depth(self, tower: str, layers: int, clip: FrozenCLIP, least: int = 1) -> None:
        key = f"PROMPT_DEPTH_{tower}"
        check_depth(self.settings[key], layers, f"TRAINER.{self.node}.{key}", clip, least)

    @property
    def vision_shape(self) -> tuple[int, int]:
        """J and K of the vision tower."""
        return self.settings.PROMPT_DEPTH_VISION, self.settings.N_CTX_VISION

    def build_learner(self, clip: FrozenCLIP) -> IndependentPrompts:
        text_layers = self.settings.PROMPT_DEPTH_TEXT
        return IndependentPrompts(clip, self.context, text_layers, *self.vision_shape)

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> IVLPMethod:
        return IVLPMethod(clip, prompts, self.build_learner(clip))
