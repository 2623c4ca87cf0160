"""`open_clip:...` -> files, and these -> open_clip's model, its tokenizer, the images it is for.

`open_clip:ARCHITECTURE/PATH` is an architecture that open_clip knows, up to the first slash, and a
file or directory of its weights. `open_clip:DIRECTORY` and `open_clip:hf-hub:OWNER/NAME` have an
open_clip_config.json, which says the architecture.

Nothing that stands beside weights is run: tensors are read by `weights.files`, and a config may not
ask for code of others.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from frozen_clip.feature_clip import FeatureCLIP
from frozen_clip.finite import check_finite
from frozen_clip.model import Loaded
from frozen_clip.properties import Preprocessing
from frozen_clip.weights import hub
from frozen_clip.weights.configs import (
    Json,
    complete,
    first_line,
    open_clip_images,
    package,
    read_open_clip,
)
from frozen_clip.weights.directories import OPEN_CLIP as CONFIG
from frozen_clip.weights.directories import WEIGHTS
from frozen_clip.weights.files import hash_of, read_file

PREFIX = "open_clip:"
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json"),
    "merges.txt",
)
# What a config may say to a tokenizer: other arguments could let transformers run code.
TOKENIZER_ARGUMENTS = {"clean", "strip_sep_token", "language"}
# Keys of a config that do not belong to the architecture.
NOT_ARCHITECTURE = {"timm_model_pretrained", "hf_model_pretrained", "hf_tokenizer_name"}

open_clip = partial(package, "open_clip", f"a backbone {PREFIX}...")


def features_only(name: str) -> bool:
    """Whether the model of this name gives features alone, and no layers to edit."""
    return name.startswith(PREFIX)


class Place(NamedTuple):
    """Where a model is. architecture: '' where the config says it. tokenizer: its directory."""

    architecture: str
    weights: Path
    config: Path | None
    tokenizer: Path | None

    @property
    def files(self) -> list[Path]:
        beside = [self.tokenizer / name for name in TOKENIZER] if self.tokenizer else []
        config = [self.config] if self.config else []
        return [self.weights, *config, *filter(Path.is_file, beside)]

    @property
    def digest(self) -> str:
        """One hash of all that features depend on: architecture and files."""
        said = f"{PREFIX}{self.architecture} {hash_of(self.files)}"
        return hashlib.sha256(said.encode()).hexdigest()


def find(name: str, download: bool = False) -> Place:
    """The files behind a name; ValueError or OSError with what to do where there are none."""
    rest = name.removeprefix(PREFIX)
    if rest.startswith(hub.PREFIX):  # whose tokenizer is in the cache, under its own name
        return _place("", hub.fetch(rest, download))._replace(tokenizer=None)
    if rest and Path(rest).expanduser().is_dir():
        return _place("", Path(rest).expanduser())
    architecture, _, path = rest.partition("/")
    known = open_clip().list_models()
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=1, cutoff=0.4)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"backbone {name!r} is no directory, and open_clip has no architecture "
            f"{architecture!r}.{hint} Allowed: {PREFIX}ARCHITECTURE/PATH, where the path begins "
            f"behind the first slash, {PREFIX}DIRECTORY with {CONFIG}, {PREFIX}{hub.PREFIX}"
            "OWNER/NAME. open_clip.list_models() has the architectures"
        )
    if not path or not Path(path).expanduser().exists():
        raise ValueError(
            f"there is no file or directory {path!r} for backbone {name!r}: behind "
            f"{PREFIX}{architecture}/ put the path of its weights"
        )
    return _place(architecture, Path(path).expanduser())


def _place(architecture: str, path: Path) -> Place:
    folder, names = (path, WEIGHTS[CONFIG]) if path.is_dir() else (path.parent, (path.name,))
    weights = next((folder / name for name in names if (folder / name).is_file()), None)
    has_config = (folder / CONFIG).is_file() and not {*names}.isdisjoint(WEIGHTS[CONFIG])
    if weights is None or not (architecture or has_config):
        raise ValueError(
            f"{path} is no directory of open_clip: give one with {CONFIG} and "
            f"{' or '.join(WEIGHTS[CONFIG])}"
        )
    has_tokenizer = (
        directory
        for directory in (folder / "tokenizer", folder)
        if any((directory / name).is_file() for name in TOKENIZER[:2])
    )
    config = folder / CONFIG if has_config else None
    return Place(architecture, weights, config, next(has_tokenizer, None))


# The architecture


def architecture_of(place: Place, name: str) -> tuple[Json, Preprocessing]:
    """The config of the architecture, and the images that the model is for."""
    if place.config is None:
        config: Json = open_clip().get_model_config(place.architecture)
        images = _published_images(place.architecture)
    else:
        default = vars(open_clip().transform.PreprocessCfg())
        config, images = read_open_clip(place.config, default)
        if place.architecture:
            _check_same(config, open_clip().get_model_config(place.architecture), place)
    if "multimodal_cfg" in config:
        raise ValueError(f"{name} is a CoCa, which also writes captions: take another model")
    return config, images


def _published_images(architecture: str) -> Preprocessing:
    """What all published weights of an architecture agree about."""
    tags = open_clip().list_pretrained_tags_by_model(architecture)
    nodes = [open_clip().get_pretrained_cfg(architecture, tag) for tag in tags]
    agreed = {}
    for key in ("mean", "std", "interpolation", "resize_mode"):
        values = [node.get(key) for node in nodes]
        if values and values[0] is not None and all(value == values[0] for value in values):
            agreed[key] = values[0]
    return open_clip_images(agreed, architecture)


def _check_same(config: Json, known: Json, place: Place) -> None:
    """ValueError where a config and the architecture that was named are of two models."""
    there, named = complete(config, str(place.config)), complete(known, place.architecture)
    there[""], named[""] = (
        {key: towers[""][key] for key in ("embed_dim", "quick_gelu")} for towers in (there, named)
    )
    for tower, values in there.items():
        for key, its in values.items():
            if key not in NOT_ARCHITECTURE and its != named[tower][key]:
                raise ValueError(
                    f"{place.config} has {f'{tower}.{key}'.strip('.')} {its!r}, and "
                    f"{place.architecture} has {named[tower][key]!r}: correct the architecture, or "
                    f"leave it out ({PREFIX}{place.weights.parent})"
                )


def build(config: Json, name: str) -> Any:
    """open_clip's model, with weights that mean nothing yet; no random number is drawn."""
    config = deepcopy(config)
    text_tower = config["text_cfg"].get("hf_model_name")
    own_text = config.pop("custom_text", False) or text_tower
    config["vision_cfg"]["timm_model_pretrained"] = False
    config["text_cfg"]["hf_model_pretrained"] = False
    kind = open_clip().CustomTextCLIP if own_text else open_clip().CLIP
    try:
        if text_tower:
            from transformers import AutoConfig

            AutoConfig.from_pretrained(text_tower, trust_remote_code=False)  # runs no code of it
        with torch.random.fork_rng(devices=[]):
            return kind(**config)
    except OSError as error:
        raise OSError(
            f"{name} needs the config of {text_tower}, which could not be fetched from the Hugging "
            f"Face hub ({first_line(error)}). Run it once with a network, or set hf_model_name in "
            f"{CONFIG} to a directory that has its config.json"
        ) from error
    except Exception as error:  # whatever a config provokes
        raise ValueError(
            f"open_clip cannot make {name} ({first_line(error)}): get its config again, or a newer "
            "open_clip_torch and timm"
        ) from error


def fill(model: Any, file: Path, quick_gelu: bool, name: str) -> None:
    """Load the weights; ValueError unless every tensor is there, and of the right shape."""
    state, its, _ = read_file(file)
    if its and (its.activation == "quick_gelu") != quick_gelu:
        raise ValueError(
            f"{its.source} says activation {its.activation}, and the architecture of {name} has "
            f"quick_gelu {quick_gelu}: give the one with or without -quickgelu"
        )
    state = {key.removeprefix("module."): value for key, value in state.items()}
    own = model.state_dict()
    try:
        if "positional_embedding" in state and "positional_embedding" not in own:
            state = open_clip().model.convert_to_custom_text_state_dict(state)
        for key in ("logit_scale", "logit_bias"):
            if key in state and key in own and state[key].numel() == 1:  # 0-d, 1-d: the same
                state[key] = state[key].reshape(own[key].shape)
        positions = "text.transformer.embeddings.position_ids"  # of older transformers
        model.load_state_dict({k: v for k, v in state.items() if k != positions or k in own})
    except Exception as error:  # wrong names, shapes, or no tensors
        lines = str(error).replace("\t", "").split("\n")
        raise ValueError(
            f"{file} does not fit the architecture of {name} ({(lines[1:] or lines)[0][:300]}): "
            "correct one of the two"
        ) from error


def tokenizer_of(text: Json, place: Place, name: str) -> Any:
    """The tokenizer of `open_clip.get_tokenizer`, from a local directory if there is one."""
    tokenizer = open_clip().tokenizer
    arguments, source = text.get("tokenizer_kwargs") or {}, text.get("hf_tokenizer_name")
    if arguments.keys() - TOKENIZER_ARGUMENTS or text.get("tokenizer_mode"):
        raise ValueError(
            f"{name} asks for a tokenizer with {arguments}, mode {text.get('tokenizer_mode')}; "
            f"allowed are {', '.join(sorted(TOKENIZER_ARGUMENTS))}, and no mode: take another model"
        )
    length = text.get("context_length", 77)
    if not source:
        return tokenizer.SimpleTokenizer(context_length=length, **arguments)
    try:
        where = str(place.tokenizer or source)
        return tokenizer.HFTokenizer(where, length, trust_remote_code=False, **arguments)
    except Exception as error:  # whatever files, network and versions provoke
        folder = place.weights.parent
        raise OSError(
            f"the tokenizer {place.tokenizer or source} of {name} could not be loaded "
            f"({first_line(error)}). Put its files (tokenizer.json, tokenizer_config.json, ...) "
            f"into {folder} or {folder / 'tokenizer'}, or run once with a network"
        ) from error


# The whole


def load(
    name: str,
    device: torch.device | str,
    dtype: torch.dtype,
    activation: str,
    heads: Sequence[int],
) -> FeatureCLIP:
    """A model by name, as `frozen_clip.load`; the architecture says activation and heads.

    Its weights stay float32, also under autocast. No random number is drawn.
    """
    if dtype != torch.float32:
        raise ValueError(f"{name} has its weights in float32: PREC fp16 must be amp or fp32")
    if activation or heads:
        raise ValueError(
            f"{name} says its activation and heads by its architecture: leave "
            "MODEL.BACKBONE.ACTIVATION and .HEADS out"
        )
    place = find(name, download=True)
    config, images = architecture_of(place, name)
    tokenizer = tokenizer_of(config["text_cfg"], place, name)
    model = build(config, name)
    fill(model, place.weights, config.get("quick_gelu", False), name)
    check_finite(model.state_dict(), f"backbone {name}", "Get its file again")
    bias, fetched = model.logit_bias, config["text_cfg"].get("hf_tokenizer_name")
    loaded = Loaded(hash_of(place.files), str(place.config or "open_clip.list_models()"), images)
    origin = {
        "sha256": loaded.sha256,
        "architecture": place.architecture or None,
        "embed_dim": config["embed_dim"],
        "logit_bias": None if bias is None else bias.item(),
        "tokenizer": str(place.tokenizer or fetched) if fetched else "byte pairs",
        "images": images._asdict(),
        "source": loaded.source,
        "package": f"open_clip_torch {open_clip().__version__}",
    }
    clip = FeatureCLIP(model, tokenizer, name, loaded, origin)
    _check_computes(clip)
    return clip.to(device)


def _check_computes(clip: FeatureCLIP) -> None:
    """ValueError if an image or a text gives no feature of the joint space."""
    size, width = clip.image_size, clip.embed_dim
    texts = clip.prompts(["x"], "{}")  # refuses a tokenizer of another model
    try:
        found = clip.encode_image(torch.zeros(1, 3, size, size)), clip.encode_text(texts)
        why = "" if all(f.shape == (1, width) for f in found) else f"not of {width} numbers"
    except Exception as error:  # a config can provoke any
        why = str(error).strip().split("\n")[0][:200]
    if why:
        raise ValueError(
            f"{clip.name} gives no features of an image of {size} x {size} and a text ({why}): its "
            "config does not fit its weights; get both again"
        )
