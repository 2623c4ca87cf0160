"""Where the frozen weights come from.

`load` takes a name of OpenAI's ('ViT-B/16', downloaded once and checked against its
SHA-256 by the `clip` package), a local file (one of these archives, known by its SHA-256, or
a plain state dict), or 'small', the little model that ships with this repository.
"""

from __future__ import annotations

import difflib
import os
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from frozen_clip.hashes import file_hash
from frozen_clip.model import FrozenCLIP

if TYPE_CHECKING:
    from clip.model import CLIP

SMALL = "small"
SMALL_FILE = Path(__file__).parents[1] / "tools" / "small_clip" / "weights.npz"
StateDict = dict[str, Tensor]

CONVERTED_BY_AUTOCAST = (nn.Linear, nn.MultiheadAttention)
CONVERTED_BY_OPENAI = (nn.Conv2d, *CONVERTED_BY_AUTOCAST)


def load(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    download_root: str | os.PathLike[str] | None = None,
    products: torch.dtype | None = None,
) -> FrozenCLIP:
    """A frozen CLIP by name or file, its weights in `dtype` (float16: as OpenAI converts).

    `products` is the number format of an autocast that this CLIP will always run under: the
    weights that autocast would convert at every use are converted once, which changes no bit
    of any result. Default: none.

    No random number is drawn. Downloads go to `download_root`, by default `~/.cache/clip`.
    Raises ValueError for an unknown name or a file that holds no CLIP, and OSError when a
    download fails.
    """
    known_ids = None
    if name == SMALL:
        state, known_ids = _read_small(SMALL_FILE)
    else:
        state = _read_file(_find(name, download_root))
    model = build(state, source=name)
    model.to(dtype=torch.float32)
    if dtype != torch.float32:
        _lower(model, dtype)
    if products is not None:
        lower_products(model, products)
    return FrozenCLIP(model.to(device), name, known_ids)


def names() -> list[str]:
    """The names that `load` knows, the shipped model first."""
    import clip

    return [SMALL, *clip.available_models()]


def weights_file(name: str, download_root: str | os.PathLike[str] | None = None) -> Path:
    """The file behind a name or path; that of a name need not be downloaded yet.

    Raises ValueError for what is neither.
    """
    from clip import clip

    if name == SMALL:
        return SMALL_FILE
    if os.path.isfile(name):
        return Path(name)
    if name not in clip.available_models():
        close = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"backbone {name!r} is neither a file nor a name that CLIP knows.{hint} "
            f"Allowed: {', '.join(names())}, or the path of a weights file"
        )
    root = Path(download_root or "~/.cache/clip").expanduser()
    return root / os.path.basename(clip._MODELS[name])


def weights_hash(name: str, download_root: str | os.PathLike[str] | None = None) -> str | None:
    """SHA-256 of the file behind a name or path; None if it is not here (yet), or no CLIP's."""
    try:
        return file_hash(weights_file(name, download_root))
    except (ValueError, FileNotFoundError):
        return None


def _find(name: str, download_root: str | os.PathLike[str] | None) -> Path:
    """The local file behind a name, downloaded if need be, or behind a path."""
    from clip import clip

    file = weights_file(name, download_root)
    if os.path.isfile(name):
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


def _read_file(path: Path) -> StateDict:
    """A state dict from one of OpenAI's archives or from `torch.save`; runs no code."""
    try:
        if _is_torchscript(path):
            _check_is_openais(path)
            with warnings.catch_warnings():  # recent torch deprecates the whole format
                warnings.simplefilter("ignore")
                return torch.jit.load(str(path), map_location="cpu").state_dict()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file provokes
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path} could not be read as CLIP weights ({reason}). Allowed are OpenAI's .pt "
            "archives and state dicts saved with torch.save; if it was downloaded, delete it "
            "and start again"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} does not hold CLIP weights by name, but a {type(state).__name__}")
    return state.get("state_dict", state)


def _check_is_openais(path: Path) -> None:
    """ValueError for another TorchScript archive: loading one can run code that is in it."""
    from clip import clip

    if not any(f"/{file_hash(path)}/" in url for url in clip._MODELS.values()):
        raise ValueError(
            "it is a TorchScript archive, which may run code, and by its SHA-256 not one of "
            "OpenAI's; save its state dict with torch.save"
        )


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > 2 * path.stat().st_size:
            raise ValueError("it would unpack to far more than it is")
        return any(entry.endswith("constants.pkl") for entry in archive.namelist())


def _read_small(path: Path) -> tuple[StateDict, Tensor]:
    """The shipped model: half-precision arrays, word vectors only for the ids it knows."""
    with np.load(path, allow_pickle=False) as arrays:
        state = {key: torch.from_numpy(arrays[key]).float() for key in arrays.files}
    ids = state.pop("token_embedding.ids").long()
    rows = state.pop("token_embedding.rows")
    vocabulary = torch.zeros(int(state.pop("vocab_size")), rows.shape[1])
    state["token_embedding.weight"] = vocabulary.index_copy(0, ids, rows)
    return state, ids


def build(state: StateDict, source: str = "state dict") -> CLIP:
    """`clip.model.CLIP` with these weights; its sizes are read from the shapes.

    Raises ValueError when names or shapes are not those of an OpenAI CLIP.
    """
    from clip.model import CLIP

    state = {
        str(key).removeprefix("module."): value
        for key, value in state.items()
        if key not in ("input_resolution", "context_length", "vocab_size")
    }
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.numel() > _stored(value):
            raise ValueError(f"{source} does not hold CLIP weights: {key!r} is no plain tensor")
    try:
        with torch.device("meta"):  # no memory, no random draw: every tensor is replaced
            model = CLIP(**_sizes(state))
        model.load_state_dict(state, assign=True)
    except Exception as error:  # shapes that nobody thought of
        raise ValueError(
            f"{source} does not hold the weights of an OpenAI CLIP: {error}"
        ) from error
    mask = model.build_attention_mask()
    for block in model.transformer.resblocks:
        block.attn_mask = mask
    return model


def _stored(tensor: Tensor) -> int:
    """How many values a tensor really has; none if it is no dense one with memory of its own."""
    if tensor.layout != torch.strided or tensor.is_meta:
        return -1
    return tensor.untyped_storage().nbytes() // tensor.element_size()


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
