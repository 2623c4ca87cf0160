"""What the tensors of a CLIP do not say: its activation and its numbers of attention heads.

With the wrong ones every tensor fits, and every number is wrong. So they are never guessed: they
come from what is known to be OpenAI's, from a config beside the weights, from the file itself, or
from the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

if TYPE_CHECKING:
    from clip.model import CLIP

ACTIVATIONS = ("quick_gelu", "gelu")  # x * sigmoid(1.702 x); x * Phi(x), exactly


class Facts(NamedTuple):
    """activation: one of `ACTIVATIONS`. heads: of the vision and of the text tower; None where
    each is 64 wide, as in all of OpenAI's. source: who says so."""

    activation: str
    heads: tuple[int, int] | None
    source: str


class Preprocessing(NamedTuple):
    """How a model wants its images, as far as it says: mean and std of red, green and blue."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None  # 'bicubic', 'bilinear' or 'nearest'
    resize: str | None = None  # 'shortest': the shorter edge, then a crop; 'squash': to a square


def facts_in(content: dict[str, object], source: str) -> Facts | None:
    """The facts that a file says of itself in `activation` and `heads`; None without them.

    Raises ValueError where they are no such thing.
    """
    activation, heads = content.get("activation"), content.get("heads")
    if activation is None and heads is None:
        return None
    pair = _pair(heads)
    if activation not in ACTIVATIONS or pair is None:
        raise ValueError(
            f"it says activation {activation!r:.50} and heads {heads!r:.50}; allowed are "
            f"{' or '.join(ACTIVATIONS)}, and the heads of the vision and of the text tower"
        )
    return Facts(str(activation), pair, source)


def _pair(heads: object) -> tuple[int, int] | None:
    """(vision, text) of two numbers, or of a text such as '12,8'; None for anything else."""
    words = heads.split(",") if isinstance(heads, str) else heads
    if not isinstance(words, list | tuple) or len(words) != 2:
        return None
    numbers = [int(word) for word in words if str(word).strip().isdigit() and int(word) > 0]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def settle(
    found: Facts | None,
    activation: str,
    heads: Sequence[int],
    name: str,
    widths: tuple[int, int],
) -> tuple[str, tuple[int, int], str]:
    """Activation, heads and who says so, the model or the user; ValueError where neither does, or
    the two differ.

    activation, heads: the user's; empty where nothing was given
    widths: of the vision and of the text tower, whose heads share them
    """
    default = (widths[0] // 64, widths[1] // 64)
    given = _given(activation, heads)
    if found is None:
        if not activation or given is None:
            raise ValueError(_unknown(name, default))
        found = Facts(activation, given, "MODEL.BACKBONE.ACTIVATION and MODEL.BACKBONE.HEADS")
    its_heads = found.heads or default
    _check_agrees("ACTIVATION", activation, found.activation, name, found.source)
    _check_agrees("HEADS", given, its_heads, name, found.source)
    for tower, count, width in zip(("vision", "text"), its_heads, widths, strict=True):
        if width % count:
            raise ValueError(
                f"{name} cannot have {count} heads in its {tower} tower, which is {width} wide "
                f"({found.source}): the width must be a multiple of them"
            )
    return found.activation, its_heads, found.source


def _given(activation: str, heads: Sequence[int]) -> tuple[int, int] | None:
    """The user's heads, if there are any; ValueError for what cannot be."""
    pair = _pair(list(heads))
    if activation not in ("", *ACTIVATIONS) or (heads and pair is None):
        raise ValueError(
            f"activation is {activation!r} and heads are {heads}; allowed are "
            f"{' or '.join(ACTIVATIONS)}, and the heads of the vision and of the text tower"
        )
    return pair


def _check_agrees(key: str, given: object, its: object, name: str, source: str) -> None:
    if given and given != its:
        raise ValueError(
            f"MODEL.BACKBONE.{key} is {given}, but {name} has {its} ({source}): leave the key out"
        )


def _unknown(name: str, default: tuple[int, int]) -> str:
    return (
        f"{name} does not say its activation and numbers of attention heads, and by its SHA-256 "
        "it is none of OpenAI's files. Its tensors fit any, and the wrong ones give wrong numbers. "
        "Put the config of the model (open_clip_config.json, or config.json of Hugging Face) "
        "beside the weights and give the directory, or set MODEL.BACKBONE.ACTIVATION to quick_gelu "
        "(OpenAI's, and names with -quickgelu) or gelu (most others of open_clip), and "
        f'MODEL.BACKBONE.HEADS to those of both towers: "{default}" where each is 64 wide, '
        "(16, 16) for ViT-H-14. See docs/weights.md"
    )


def apply(model: CLIP, activation: str, heads: tuple[int, int]) -> None:
    """Let a CLIP compute with this activation and these heads of the vision and text tower."""
    from frozen_clip.openai import model as openai

    vision, text = heads
    blocks = [(block, text) for block in model.transformer.resblocks]
    if isinstance(model.visual, openai.ModifiedResNet):
        model.visual.attnpool.num_heads = vision
    else:
        blocks += [(block, vision) for block in model.visual.transformer.resblocks]
    for block, count in blocks:
        block.attn.num_heads, block.attn.head_dim = count, block.attn.embed_dim // count
        block.mlp.gelu = nn.GELU() if activation == "gelu" else openai.QuickGELU()


def read_off(model: CLIP) -> tuple[str, tuple[int, int]]:
    """The activation and heads (vision, text) that a CLIP computes with."""
    from frozen_clip.openai import model as openai

    block = model.transformer.resblocks[0]
    activation = "gelu" if isinstance(block.mlp.gelu, nn.GELU) else "quick_gelu"
    if isinstance(model.visual, openai.ModifiedResNet):
        vision = model.visual.attnpool.num_heads
    else:
        vision = model.visual.transformer.resblocks[0].attn.num_heads
    return activation, (vision, block.attn.num_heads)


def described(model: CLIP) -> dict[str, object]:
    """What `torch.save` makes a file of that says its facts: tensors, activation, heads."""
    activation, heads = read_off(model)
    return {"state_dict": model.state_dict(), "activation": activation, "heads": list(heads)}
