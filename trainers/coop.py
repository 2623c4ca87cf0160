"""CoOp: context optimization, learned words instead of 'a photo of a'.

IJCV 2022, arXiv 2109.01134. The words around a class name are vectors in CLIP's
word-embedding space and learned by gradient, one context for all classes or one for each
(CSC). The class name stands behind them, in their middle or in front. Images are CLIP's.

Trained: the context, and nothing else. Unseen classes: the learned context around their names;
with CSC none can be answered.

    K context words, C classes, D width of the text tower, E joint space
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Prompts, overwrite
from frozen_clip import prompts as prompting
from training.learned_context import N_CTX, Context, ContextSettings
from training.method import Method, cosine_logits, normalize
from training.settings import WORDS, YES_NO, key, one_of
from training.trainer import CLIPTrainer

POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class LearnedWords(ContextSettings):
    """The keys of CoOp and CoCoOp (`trainers.cocoop`)."""

    n_ctx: int = key(16, N_CTX, "learned words (K), if CTX_INIT is empty", fixed=True)
    ctx_init: str = key("", WORDS, "what the context starts as; empty: random vectors", fixed=True)

    @property
    def context(self) -> Context:
        return Context(self.ctx_init) if self.ctx_init else Context(count=self.n_ctx)


@dataclass(frozen=True)
class PlacedWords(ContextSettings):
    """The keys of methods whose context may be each class's own, or behind its name."""

    csc: bool = key(False, YES_NO, "a context of its own for each class", fixed=True)
    class_token_position: str = key(
        "end", one_of(POSITIONS), "where the class name is in the context", fixed=True
    )

    @property
    def per_class(self) -> bool:
        return self.csc

    @property
    def words_before_name(self) -> int:
        """How many words of the context are in front of the class name."""
        count = self.context.count
        return {"end": count, "middle": count // 2, "front": 0}[self.class_token_position]


@dataclass(frozen=True)
class CoOpSettings(PlacedWords, LearnedWords):
    pass


class ContextLearner(nn.Module):
    """Everything CoOp trains: the context (K, D), or (C, K, D) if each class has its own."""

    def __init__(self, settings: ContextSettings, clip: FrozenCLIP, classes: int | None = None):
        super().__init__()
        context = settings.context
        if classes is None:
            start = context.start(clip)
        else:
            start = torch.stack([context.start(clip) for _ in range(classes)])
        self.context = nn.Parameter(start)


class CoOpMethod(Method):
    """Prompts whose context is learned.

    Behind the start of text its places are in the prefix that all prompts share; around a class
    name, or where each class has its own, they are the rows `rows_CK` of the prompts' suffixes.
    """

    Settings: type[PlacedWords] = CoOpSettings
    Learner = ContextLearner
    settings: PlacedWords
    rows_CK: Tensor | None

    def prepare(self, classnames: Sequence[str]) -> None:
        count, before, rows_CK = self.settings.context.count, self.settings.words_before_name, None
        if before < count or self.settings.csc:
            self.prompts, rows_CK = in_suffixes(self.prompts, classnames, count, before)
        self.register_buffer("rows_CK", rows_CK, persistent=False)

    def build_learner(self, classes: int) -> ContextLearner:
        return ContextLearner(self.settings, self.clip, classes if self.settings.csc else None)

    def text_features(self) -> Tensor:
        """w (C, E), normalized."""
        context = self.learner.context.to(self.clip.dtype)  # (K, D) or (C, K, D)
        if self.rows_CK is None:
            return normalize(self.clip.text(self.prompts, {0: overwrite(context)}))
        context_CKD = context.expand(*self.rows_CK.shape, -1)
        words_RD = self.clip.text.suffix_embeddings(self.prompts)
        words_RD = words_RD.index_copy(0, self.rows_CK.flatten(), context_CKD.flatten(0, 1))
        return normalize(self.clip.text(self.prompts, suffix_words=words_RD))

    def of_features(self, f: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(normalize(f), w, self.clip.scale)


@TRAINER_REGISTRY.register()
class CoOp(CLIPTrainer):
    node = "COOP"
    Method = CoOpMethod
    model_name = "prompt_learner"


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
