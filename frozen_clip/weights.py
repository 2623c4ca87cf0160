"""Where the frozen weights come from.

`load` takes a name of OpenAI's ('ViT-B/16', downloaded once and checked against its
SHA-256 by the `clip` package), `hf-hub:OWNER/NAME`, a directory or file of weights of several
makes (docs/weights.md), 'small', the little model that ships with this repository, or
`open_clip:ARCHITECTURE/PATH` (`frozen_clip.features`).
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from frozen_clip import architectures, directories, facts, features, hub
from frozen_clip.files import StateDict, Weights, hash_of, read_small
from frozen_clip.finite import check_finite
from frozen_clip.model import FrozenCLIP, Loaded
from frozen_clip.openai_names import openai_names

if TYPE_CHECKING:
    from clip.model import CLIP

SMALL = "small"
VOCABULARY = 49408  # tokens of OpenAI's tokenizer
SMALL_FILE = Path(__file__).with_name("small.npz")

CONVERTED_BY_AUTOCAST = (nn.Linear, nn.MultiheadAttention)
CONVERTED_BY_OPENAI = (nn.Conv2d, *CONVERTED_BY_AUTOCAST)


def load(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    download_root: str | os.PathLike[str] | None = None,
    products: torch.dtype | None = None,
    activation: str = "",
    heads: Sequence[int] = (),
) -> FrozenCLIP | features.FeatureCLIP:
    """A frozen CLIP by name, directory or file, its weights in `dtype` (float16: as OpenAI
    converts).

    `products` is the number format of an autocast that this CLIP will always run under: the
    weights that autocast would convert at every use are converted once, which changes no bit
    of any result. Default: none.

    `activation` and `heads` (of the vision and the text tower) are for a file that does not say
    them: see `frozen_clip.facts`.

    No random number is drawn. Downloads go to `download_root`, by default `~/.cache/clip`.
    Raises ValueError for an unknown name, a file that holds no CLIP or does not say enough, and
    OSError when a download fails.
    """
    if features.features_only(name):
        return features.load(name, device, dtype, activation, heads)
    known_ids = None
    if name == SMALL:
        found, known_ids = read_small(SMALL_FILE)
    else:
        found = directories.read(_find(name, download_root))
    model, source = _settled(found, name, activation, heads)
    model.to(dtype=torch.float32)
    if dtype != torch.float32:
        _lower(model, dtype)
    if products is not None:
        lower_products(model, products)
    lowest = torch.float16 in (dtype, products)
    wider = "; float16 ends at 65504, where PREC fp32 has more room" if lowest else ""
    check_finite(model.state_dict(), f"backbone {name}", f"Get its file again{wider}")
    loaded = Loaded(found.sha256, source, found.images)
    return FrozenCLIP(model.to(device), name, known_ids, loaded)


def _settled(found: Weights, name: str, activation: str, heads: Sequence[int]) -> tuple[CLIP, str]:
    """The model, computing as it was trained to, and who says how that is."""
    model = build(found.state, name, found.expected)
    settled = facts.settle(found.facts, activation, heads, name, _widths(model))
    facts.apply(model, settled[0], settled[1])
    return model, settled[2]


def _widths(model: CLIP) -> tuple[int, int]:
    """What the heads of the vision and of the text tower share."""
    from frozen_clip.openai import model as openai

    visual = model.visual
    top = visual.attnpool if isinstance(visual, openai.ModifiedResNet) else visual
    return top.positional_embedding.shape[-1], model.positional_embedding.shape[-1]


def names() -> list[str]:
    """The names that `load` knows, the shipped model first."""
    from frozen_clip.openai import clip

    return [SMALL, *clip.available_models()]


def weights_file(name: str, download_root: str | os.PathLike[str] | None = None) -> Path:
    """The file or directory behind a name or path; that of a name need not be here yet.

    Raises ValueError for what is neither, and OSError for a name on the hub that is not here yet.
    """
    from frozen_clip.openai import clip

    if name == SMALL:
        return SMALL_FILE
    if features.features_only(name):
        return architectures.find(name).weights
    if name.startswith(hub.PREFIX):
        return hub.fetch(name, download=False)
    known = name in clip.available_models() and not os.path.isfile(name)
    if os.path.exists(name) and not known:  # a directory may be called RN50
        return Path(name)
    if not known:
        close = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"backbone {name!r} is neither a file or directory nor a name that CLIP knows.{hint} "
            f"Allowed: {', '.join(names())}, {hub.PREFIX}OWNER/NAME, "
            f"{architectures.PREFIX}ARCHITECTURE/PATH, or the path of weights"
        )
    root = Path(download_root or "~/.cache/clip").expanduser()
    return root / os.path.basename(clip._MODELS[name])


def weights_hash(name: str, download_root: str | os.PathLike[str] | None = None) -> str | None:
    """SHA-256 of what is behind a name or path; None if it is not here (yet), or no CLIP's."""
    try:
        if features.features_only(name):
            return architectures.find(name).digest
        return hash_of(directories.files_of(weights_file(name, download_root)))
    except (ValueError, OSError):
        return None


def _find(name: str, download_root: str | os.PathLike[str] | None) -> Path:
    """The local file or directory behind a name, downloaded if need be, or behind a path."""
    from frozen_clip.openai import clip

    if name.startswith(hub.PREFIX):
        return hub.fetch(name)
    file = weights_file(name, download_root)
    if file == Path(name):
        return file
    root = file.parent
    try:
        with warnings.catch_warnings():
            # It leaves closing its files to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            return Path(clip._download(clip._MODELS[name], str(root)))
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"the weights of {name} could not be downloaded from {clip._MODELS[name]} "
            f"to {root}: {error}. Put the file there by hand, or name a local file with "
            "--backbone; --backbone small needs no download"
        ) from error


def build(
    state: StateDict,
    source: str = "state dict",
    expected: dict[str, tuple[str, object]] | None = None,
) -> CLIP:
    """`clip.model.CLIP` with these weights; its sizes are read from the shapes.

    It computes as OpenAI's do, with QuickGELU and heads that are 64 wide.

    Raises ValueError when names or shapes are not those of an OpenAI CLIP, or sizes not those that
    are `expected` (see `Weights`).
    """
    from frozen_clip.openai import model

    state = openai_names(state, source)
    try:
        sizes = _sizes(state)
        _check_sizes(sizes, expected or {})
        with torch.device("meta"):  # no memory, no random draw: every tensor is replaced
            clip = model.CLIP(**sizes)
        clip.load_state_dict(state, assign=True)
    except Exception as error:  # shapes that nobody thought of
        reason = f"it lacks {error}" if isinstance(error, KeyError) else f"{error!s:.500}"
        raise ValueError(
            f"{source} does not hold the weights of an OpenAI CLIP ({reason}): give those of a "
            "whole one"
        ) from error
    mask = clip.build_attention_mask()
    for block in clip.transformer.resblocks:
        block.attn_mask = mask
    return clip


def _check_sizes(sizes: dict[str, Any], expected: dict[str, tuple[str, object]]) -> None:
    for name, (word, said) in expected.items():
        found = list(sizes[name]) if isinstance(sizes[name], tuple) else sizes[name]
        if found != said:
            raise ValueError(
                f"its config says {word} {said}, but its tensors are of {found}. Config and "
                "weights are not of one model: get both again"
            )
    if sizes["vocab_size"] != VOCABULARY:
        raise ValueError(
            f"it has word vectors for {sizes['vocab_size']} tokens, and OpenAI's tokenizer, which "
            f"is used here, has {VOCABULARY}: take another model"
        )


def _sizes(state: StateDict) -> dict[str, Any]:
    """The constructor arguments of `clip.model.CLIP` that fit a state dict."""
    width = state["ln_final.weight"].shape[0]
    return {
        "embed_dim": state["text_projection"].shape[1],
        **_vision_sizes(state),
        "context_length": state["positional_embedding"].shape[0],
        "vocab_size": state["token_embedding.weight"].shape[0],
        "transformer_width": width,
        "transformer_heads": width // 64,
        "transformer_layers": _count(state, "transformer.resblocks."),
    }


def _vision_sizes(state: StateDict) -> dict[str, Any]:
    if "visual.proj" in state:
        patch = state["visual.conv1.weight"].shape[-1]
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        return {
            "image_resolution": patch * grid,
            "vision_layers": _count(state, "visual.transformer.resblocks."),
            "vision_width": state["visual.conv1.weight"].shape[0],
            "vision_patch_size": patch,
        }
    grid = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
    return {
        "image_resolution": 32 * grid,
        "vision_layers": tuple(_count(state, f"visual.layer{i}.") for i in (1, 2, 3, 4)),
        "vision_width": state["visual.layer1.0.conv1.weight"].shape[0],
        "vision_patch_size": None,
    }


def _count(state: StateDict, prefix: str) -> int:
    """How many numbered blocks stand under `prefix`."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def lower_products(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert what autocast(dtype) would at every use.

    But for the first convolution, whose format is the CLIP's `dtype`, that of learned tokens, and
    the two projections, to which a method may add something before they are used.
    """
    for module in model.modules():
        if isinstance(module, CONVERTED_BY_AUTOCAST):
            module.to(dtype)


def _lower(model: nn.Module, dtype: torch.dtype) -> None:
    """Weights of products in `dtype`; norms and embeddings stay float32, as OpenAI has it."""
    for module in model.modules():
        if isinstance(module, CONVERTED_BY_OPENAI):
            module.to(dtype)
    for name, parameter in model.named_parameters():
        if name in ("text_projection", "visual.proj"):
            parameter.data = parameter.data.to(dtype)
