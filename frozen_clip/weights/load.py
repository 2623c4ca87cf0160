"""A name, file or directory -> a frozen CLIP.

Names are OpenAI's ('ViT-B/16', downloaded once and checked against its SHA-256 by the `clip`
package), 'small' (the model that ships with this repository), `hf-hub:OWNER/NAME`, and
`open_clip:...` for models that give features alone. docs/weights.md has all of them.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from frozen_clip import properties
from frozen_clip.feature_clip import FeatureCLIP
from frozen_clip.finite import check_finite
from frozen_clip.model import FrozenCLIP, Loaded
from frozen_clip.properties import Preprocessing
from frozen_clip.weights import directories, hub, open_clip
from frozen_clip.weights.files import hash_of, read_small
from frozen_clip.weights.state_dict import build

if TYPE_CHECKING:
    from clip.model import CLIP

SMALL = "small"
SMALL_FILE = Path(__file__).parents[1] / "small.npz"

CAST_BY_AUTOCAST = (nn.Linear, nn.MultiheadAttention)
CAST_BY_OPENAI = (nn.Conv2d, *CAST_BY_AUTOCAST)


def load(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    download_root: str | os.PathLike[str] | None = None,
    matmul_dtype: torch.dtype | None = None,
    activation: str = "",
    heads: Sequence[int] = (),
) -> FrozenCLIP | FeatureCLIP:
    """A frozen CLIP by name, directory or file. No random number is drawn.

    dtype: of the weights; float16: of those that OpenAI converts
    download_root: of OpenAI's weights; default `~/.cache/clip`
    matmul_dtype: of an autocast under which the CLIP will always run. Weights that autocast would
        cast at every use are cast once, which changes no bit of any result. Default: none
    activation, heads: for files that do not state them (`frozen_clip.properties`); heads of the
        vision and the text tower

    Raises ValueError for an unknown name, a file that holds no CLIP or does not say enough, and
    OSError when a download fails.
    """
    _ask_for_huge_pages()
    if open_clip.features_only(name):
        return open_clip.load(name, device, dtype, activation, heads)
    known_ids, config = None, None
    if name == SMALL:
        found, known_ids = read_small(SMALL_FILE)
    else:
        found, config = directories.read(_find(name, download_root))
    model = build(found.state, name, config.sizes if config else {})
    widths = _widths(model)
    kind, counts, source = properties.settle(found.properties, activation, heads, name, widths)
    properties.apply(model, kind, counts)
    _cast(model, dtype)
    if matmul_dtype is not None:
        cast_matmul_weights(model, matmul_dtype)
    half = torch.float16 in (dtype, matmul_dtype)
    wider = "; float16 ends at 65504, where PREC fp32 has more room" if half else ""
    check_finite(model.state_dict(), f"backbone {name}", f"Get its file again{wider}")
    images = config.images if config else Preprocessing()
    return FrozenCLIP(model.to(device), name, known_ids, Loaded(found.sha256, source, images))


def _ask_for_huge_pages() -> None:
    """Let PyTorch put CPU tensors on huge pages (2 MiB), where Linux offers them.

    Training then takes about a quarter less memory, at the same speed (docs/benchmarks.md).
    PyTorch reads the variable once, at its first tensor; a value that the user set is kept.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _widths(model: CLIP) -> tuple[int, int]:
    """What the heads of the vision and of the text tower divide."""
    from frozen_clip.openai import model as openai

    visual = model.visual
    top = visual.attnpool if isinstance(visual, openai.ModifiedResNet) else visual
    return top.positional_embedding.shape[-1], model.positional_embedding.shape[-1]


def cast_matmul_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights that autocast(dtype) would cast at every use.

    Not the first convolution, whose dtype is that of the CLIP and of learned tokens, and not the
    two projections, to which a method may add something before they are used.
    """
    for module in model.modules():
        if isinstance(module, CAST_BY_AUTOCAST):
            module.to(dtype)


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """All weights to float32; those of matmuls and convolutions to `dtype`, as OpenAI has it."""
    model.to(dtype=torch.float32)
    if dtype == torch.float32:
        return
    for module in model.modules():
        if isinstance(module, CAST_BY_OPENAI):
            module.to(dtype)
    for name, parameter in model.named_parameters():
        if name in ("text_projection", "visual.proj"):
            parameter.data = parameter.data.to(dtype)


# Names


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
    if open_clip.features_only(name):
        return open_clip.find(name).weights
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
            f"{open_clip.PREFIX}ARCHITECTURE/PATH, or the path of weights"
        )
    root = Path(download_root or "~/.cache/clip").expanduser()
    return root / os.path.basename(clip._MODELS[name])


def weights_hash(name: str, download_root: str | os.PathLike[str] | None = None) -> str | None:
    """SHA-256 of what is behind a name or path; None if it is not here (yet), or no CLIP's."""
    try:
        if open_clip.features_only(name):
            return open_clip.find(name).digest
        return hash_of(directories.files_of(weights_file(name, download_root)).all)
    except (ValueError, OSError):
        return None


def _find(name: str, download_root: str | os.PathLike[str] | None) -> Path:
    """The file or directory behind a name, downloaded if need be, or behind a path."""
    from frozen_clip.openai import clip

    if name.startswith(hub.PREFIX):
        return hub.fetch(name)
    file = weights_file(name, download_root)
    if file == Path(name):
        return file
    try:
        with warnings.catch_warnings():
            # It leaves closing its files to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            return Path(clip._download(clip._MODELS[name], str(file.parent)))
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"the weights of {name} could not be downloaded from {clip._MODELS[name]} "
            f"to {file.parent}: {error}. Put the file there by hand, or name a local file with "
            "--backbone; --backbone small needs no download"
        ) from error
