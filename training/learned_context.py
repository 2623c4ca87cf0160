"""What the methods share that learn words in front of a class name.

A prompt is start of text, K learned words, what may follow them, the class name, '.', end of
text. The learned words are vectors put over placeholders in the input (`Context`); methods
that prompt deeper layers put fresh vectors in the same places there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from frozen_clip import Edits, FrozenCLIP, insert, overwrite
from frozen_clip.prompts import token_counts, tokenize
from training.checks import check_template
from training.settings import MethodSettings, any_value, whole

MOST_WORDS = 4  # CTX_INIT is for so many learned words at most, in MaPLe and its descendants
N_CTX = whole(1, 75)  # a prompt of CLIP has 77 tokens
DEEP_INIT = (
    "what the prompts say; the text tokens of the input start as its first {} words, the rest "
    f"stays. Empty, or more than {MOST_WORDS} tokens: they start at random"
)
DEPTH = any_value("a number of layers of the tower, counted from the input")


class Context:
    """The words in front of the class name, of which the first `count` are learned.

    words: what the prompt says; empty for `count` vectors that start at random
    count: K; by default all tokens of `words`
    """

    def __init__(self, words: str = "", count: int | None = None):
        self.words = words.replace("_", " ").strip()
        try:
            given = int(token_counts([self.words]))
        except ValueError as error:
            raise ValueError(f"CTX_INIT has too many words: {error}") from error
        self.count = given if count is None else count
        most = given if self.words else 75
        if not 1 <= self.count <= most:
            where = f"CTX_INIT {self.words!r}" if self.words else "a prompt"
            raise ValueError(
                f"{self.count} learned words of context (N_CTX) do not fit: allowed for {where} "
                f"are 1 to {most}"
            )

    @property
    def template(self) -> str:
        """The template, with placeholders where learned words have no start in `words`."""
        return f"{self.words or ' '.join(['X'] * self.count)} {{}}."

    def check(self, clip: FrozenCLIP) -> None:
        """ValueError where the words leave no room for a class name."""
        check_template(self.template, "the context (N_CTX, CTX_INIT)", clip)

    def start(self, clip: FrozenCLIP) -> Tensor:
        """What the learned words start as (K, D): CLIP's vectors of `words`, or N(0, 0.02^2)."""
        if not self.words:
            return 0.02 * torch.randn(self.count, clip.text.width)
        ids_K = tokenize([self.words])[0, 1 : 1 + self.count]
        return clip.text.words(ids_K.to(clip.device)).float().cpu()


def deep_context(words: str, count: int) -> Context:
    """The context of the methods that prompt deeper layers, too; it starts at random if it is
    longer than MOST_WORDS."""
    return Context(words if count <= MOST_WORDS else "", count)


@dataclass(frozen=True)
class ContextSettings(MethodSettings):
    """Settings of a method whose template is its context."""

    @property
    def context(self) -> Context:
        raise NotImplementedError

    @property
    def template(self) -> str:
        return self.context.template

    def check(self, clip: FrozenCLIP) -> None:
        self.context.check(clip)


def text_edits(tokens_JKD: Tensor) -> Edits:
    """Tokens in front of the class name, in the input and before layers 2 to J."""
    first, *deeper = tokens_JKD
    edits = {layer: overwrite(tokens) for layer, tokens in enumerate(deeper, start=2)}
    return {0: overwrite(first), **edits}


def vision_edits(tokens_JKD: Tensor, at: int) -> Edits:
    """Tokens behind the patches, that is from row `at`: they join after the positions were
    added and before `ln_pre`, and are replaced before layers 2 to J."""
    first, *deeper = tokens_JKD
    edits = {layer: overwrite(tokens, at) for layer, tokens in enumerate(deeper, start=2)}
    return {0: insert(first, at), **edits}


def random_tokens(layers: int, count: int, width: int) -> Tensor:
    """The start of tokens for J layers (J, K, D): N(0, 0.02^2)."""
    return 0.02 * torch.randn(layers, count, width)


def check_depth(depth: int, layers: int, key: str, clip: FrozenCLIP, least: int = 1) -> None:
    """ValueError unless the number of prompted layers is from `least` to `layers`."""
    if not least <= depth <= layers:
        first = "1 (the input alone)" if least else "0 (no tokens in this tower)"
        raise ValueError(
            f"{key} is {depth}; allowed for {clip.name} is a number of prompted layers from "
            f"{first} to {layers}"
        )
