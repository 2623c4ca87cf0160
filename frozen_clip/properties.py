"""What the tensors of a CLIP do not tell: activation, attention heads, and how it takes images.

With the wrong activation or heads every tensor fits, and every number is wrong. So they are never
guessed: they are known for OpenAI's files, or stand in a config beside the weights or in the file
itself, or the user gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

if TYPE_CHECKING:
    from clip.model import CLIP

ACTIVATIONS = ("quick_gelu", "gelu")  # x * sigmoid(1.702 x); x * Phi(x), exactly


class Properties(NamedTuple):
    """How a CLIP computes.

    activation: one of `ACTIVATIONS`
    heads: of the vision and the text tower; None where each is 64 wide, as in all of OpenAI's
    source: which file, or who, says so
    """

    activation: str
    heads: tuple[int, int] | None
    source: str


class Preprocessing(NamedTuple):
    """The images that a model was trained on, as far as it says; mean and std of R, G, B."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None  # 'bicubic', 'bilinear' or 'nearest'
    resize: str | None = None  # 'shortest': the shorter edge, then a crop; 'squash': to a square


def properties_in(content: dict[str, object], source: str) -> Properties | None:
    """The properties that a file states as `activation` and `heads`; None without them.

    Raises ValueError for other values than allowed.
    """
    activation, heads = content.get("activation"), content.get("heads")
    if activation is None and heads is None:
        return None
    pair = _pair(heads)
    if activation not in ACTIVATIONS or pair is None:
        raise ValueError(f"it says {_not_allowed(activation, heads)}")
    return Properties(str(activation), pair, source)


def settle(
    found: Properties | None,
    activation: str,
    heads: Sequence[int],
    name: str,
    widths: tuple[int, int],
) -> tuple[str, tuple[int, int], str]:
    """Activation, heads and their source: the model's own, or the user's where it has none.

    activation, heads: the user's; empty if not given
    widths: D of the vision and the text tower, which the heads divide

    Raises ValueError where nobody states them, where the two differ, and for impossible heads.
    """
    default = (widths[0] // 64, widths[1] // 64)
    given = _pair(list(heads))
    if activation not in ("", *ACTIVATIONS) or (heads and given is None):
        raise ValueError(f"the config has {_not_allowed(activation, heads)}")
    if found is None:
        if not activation or given is None:
            raise ValueError(_unknown(name, default))
        found = Properties(activation, given, "MODEL.BACKBONE.ACTIVATION and MODEL.BACKBONE.HEADS")
    its = found.heads or default
    _check_agrees("ACTIVATION", activation, found.activation, name, found.source)
    _check_agrees("HEADS", given, its, name, found.source)
    for tower, count, width in zip(("vision", "text"), its, widths, strict=True):
        if width % count:
            raise ValueError(
                f"{name} cannot have {count} heads in its {tower} tower, which is {width} wide "
                f"({found.source}): the width must be a multiple of them"
            )
    return found.activation, its, found.source


def _pair(heads: object) -> tuple[int, int] | None:
    """(vision, text) of two numbers, or of a text such as '12,8'; None for anything else."""
    words = heads.split(",") if isinstance(heads, str) else heads
    if not isinstance(words, list | tuple) or len(words) != 2:
        return None
    numbers = [int(word) for word in words if str(word).strip().isdigit() and int(word) > 0]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _not_allowed(activation: object, heads: object) -> str:
    return (
        f"activation {activation!r:.50} and heads {heads!r:.50}; allowed are "
        f"{' or '.join(ACTIVATIONS)}, and the heads of the vision and of the text tower"
    )


def _check_agrees(key: str, given: object, its: object, name: str, source: str) -> None:
    if given and given != its:
        whose = source if source.startswith(name) else f"{name} ({source})"
        raise ValueError(f"MODEL.BACKBONE.{key} is {given}, but {whose} has {its}: leave it out")


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
    """Set the activation and the heads (vision, text) that a CLIP computes with."""
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


def properties_of(model: CLIP) -> tuple[str, tuple[int, int]]:
    """The activation and the heads (vision, text) that a CLIP computes with."""
    from frozen_clip.openai import model as openai

    block = model.transformer.resblocks[0]
    activation = "gelu" if isinstance(block.mlp.gelu, nn.GELU) else "quick_gelu"
    if isinstance(model.visual, openai.ModifiedResNet):
        vision = model.visual.attnpool.num_heads
    else:
        vision = model.visual.transformer.resblocks[0].attn.num_heads
    return activation, (vision, block.attn.num_heads)


def described(model: CLIP) -> dict[str, object]:
    """A state dict with its properties, for `torch.save`: `load` then needs nothing else."""
    activation, heads = properties_of(model)
    return {"state_dict": model.state_dict(), "activation": activation, "heads": list(heads)}
