"""CoOp: context optimisation, learned words instead of 'a photo of a'.

IJCV 2022, arXiv 2109.01134. The words around a class name are vectors in CLIP's
word-embedding space and learned by gradient, one context for all classes or one for each
(CSC). The class name stands behind them, in their middle or in front. Images are CLIP's.

Trained: the context, and nothing else.

    K context words, C classes, D width of the text tower, E joint space
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Prompts, overwrite
from frozen_clip import prompts as prompting
from training.learned_context import Context
from training.method import Method, cosine_logits, normalize
from training.published import PublicNames, PublicTensor
from training.trainer import CLIPTrainer

POSITIONS = ("end", "middle", "front")


def add_config(cfg: CfgNode) -> None:
    cfg.TRAINER.COOP = CfgNode()
    node = cfg.TRAINER.COOP
    node.PREC = "fp16"  # fp32, amp (autocast) or fp16 (amp, and frozen weights in half)
    node.N_CTX = 16  # K, if CTX_INIT is empty
    node.CTX_INIT = ""  # words that the context starts as; empty: random vectors
    node.CSC = False  # a context of its own for each class
    node.CLASS_TOKEN_POSITION = "end"  # of the class name in the context: end, middle or front


class ContextLearner(nn.Module):
    """Everything CoOp trains: the context (K, D), or (C, K, D) if each class has its own."""

    def __init__(self, clip: FrozenCLIP, context: Context, classes: int | None = None):
        super().__init__()
        if classes is None:
            start = context.start(clip)
        else:
            start = torch.stack([context.start(clip) for _ in range(classes)])
        self.context = nn.Parameter(start)


CONTEXT = PublicTensor("prompt_learner.ctx", ("CSC", "N_CTX/CTX_INIT", ""))
PUBLIC = PublicNames({"context": CONTEXT}, root="prompt_learner.")
from_public = PUBLIC.from_public


class CoOpMethod(Method):
    """Prompts whose context is learned.

    prompts: the context's places are in their prefix, from position 1
    rows_CK: or they are these rows of the prompts' suffixes
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        prompts: Prompts,
        learner: nn.Module,
        rows_CK: Tensor | None = None,
    ):
        super().__init__(clip, learner)
        self.prompts = prompts
        self.register_buffer("rows_CK", rows_CK, persistent=False)

    def text_features(self) -> Tensor:
        """w (C, E), normalised."""
        context = self.learner.context.to(self.clip.dtype)
        if self.rows_CK is None:
            return normalize(self.clip.text(self.prompts, {0: overwrite(context)}))
        context_CKD = context.expand(*self.rows_CK.shape, -1)
        words_RD = self.clip.text.suffix_embeddings(self.prompts)
        words_RD = words_RD.index_copy(0, self.rows_CK.flatten(), context_CKD.flatten(0, 1))
        return normalize(self.clip.text(self.prompts, suffix_words=words_RD))

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        f = normalize(self.clip.encode_image(images))
        return cosine_logits(f, w, self.clip.scale)


@TRAINER_REGISTRY.register()
class CoOp(CLIPTrainer):
    node = "COOP"
    model_name = "prompt_learner"
    shape_keys = ("N_CTX", "CTX_INIT", "CSC", "CLASS_TOKEN_POSITION")
    public = PUBLIC

    @property
    def context(self) -> Context:
        node = self.settings
        return Context(node.CTX_INIT) if node.CTX_INIT else Context(count=node.N_CTX)

    @property
    def template(self) -> str:
        return self.context.template

    def check_learner(self, clip: FrozenCLIP) -> None:
        super().check_learner(clip)
        self.context.check(clip)

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> CoOpMethod:
        node, context = self.settings, self.context
        learner = ContextLearner(clip, context, classes=len(prompts) if node.CSC else None)
        before = words_before_name(node.CLASS_TOKEN_POSITION, context.count)
        if before == context.count and not node.CSC:
            return CoOpMethod(clip, prompts, learner)
        prompts, rows_CK = in_suffixes(prompts, self.classnames, context.count, before)
        return CoOpMethod(clip, prompts, learner, rows_CK)


def words_before_name(position: str, count: int) -> int:
    """How many of the context's words stand in front of the class name."""
    if position not in POSITIONS:
        raise ValueError(
            f"TRAINER.COOP.CLASS_TOKEN_POSITION is {position!r}; allowed are {', '.join(POSITIONS)}"
        )
    return {"end": count, "middle": count // 2, "front": 0}[position]


def in_suffixes(
    prompts: Prompts, classnames: Sequence[str], count: int, before: int
) -> tuple[Prompts, Tensor]:
    """The prompts with each name behind `before` of its `count` context words, and the rows
    (C, K) of their suffixes where these stand; the shared prefix is the start of text alone."""
    names = prompting.fill_template(classnames, "{}")
    length_C = prompting.token_counts(names).to(prompts.ids_CL.device)
    place_L = torch.arange(prompts.ids_CL.shape[1], device=length_C.device)
    behind_C1 = before + length_C[:, None]  # the last place of the name
    is_name = (place_L > before) & (place_L <= behind_C1)
    is_late = (place_L > behind_C1) & (place_L <= count + length_C[:, None])
    source_CL = place_L + (count - before) * is_name - length_C[:, None] * is_late
    moved = prompting.build(prompts.ids_CL.gather(1, source_CL), longest_prefix=1)
    early = moved.suffix_rows(torch.ones_like(length_C), before)
    late = moved.suffix_rows(1 + before + length_C, count - before)
    return moved, torch.cat([early, late], dim=1)
