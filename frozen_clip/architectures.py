"""A name of open_clip's -> files, and these -> its model, its tokenizer, how it wants its images.

`open_clip:ARCHITECTURE/PATH` is an architecture that open_clip knows, up to the first slash, and a
file or directory of its weights. `open_clip:DIRECTORY` and `open_clip:hf-hub:OWNER/NAME` have an
open_clip_config.json, which says the architecture.

Nothing that stands beside weights is run: tensors are read by `frozen_clip.files`, and a config
may not ask for code of others.
"""

from __future__ import annotations

import difflib
import hashlib
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch

from frozen_clip import hub
from frozen_clip.configs import Json, open_clip_images, read_json
from frozen_clip.facts import Preprocessing
from frozen_clip.files import hash_of, read_file

PREFIX = "open_clip:"
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json"),
    "merges.txt",
)
# What a config may say to a tokenizer: another word could let transformers run code.
TOKENIZER_WORDS = {"clean", "strip_sep_token", "language"}
# What a config says beside the architecture.
BESIDE = {"vision.timm_model_pretrained", "text.hf_model_pretrained", "text.hf_tokenizer_name"}


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
        return [self.weights, *config, *(file for file in beside if file.is_file())]

    @property
    def digest(self) -> str:
        """One hash of the architecture and all files: what features depend on."""
        said = f"{PREFIX}{self.architecture} {hash_of(self.files)}"
        return hashlib.sha256(said.encode()).hexdigest()


def find(name: str, download: bool = False) -> Place:
    """The files behind a name; ValueError or OSError with what to do where there are none."""
    rest = name.removeprefix(PREFIX)
    if rest.startswith(hub.PREFIX):  # whose tokenizer is in the cache, under its own name
        return _place("", hub.fetch(rest, download))._replace(tokenizer=None)
    directory = Path(rest).expanduser()
    if rest and directory.is_dir():
        return _place("", directory)
    architecture, _, path = rest.partition("/")
    known = package().list_models()
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


def _place(architecture: str, place: Path) -> Place:
    folder = place if place.is_dir() else place.parent
    config: Path | None = folder / CONFIG
    if place.is_dir():
        weights = next((place / name for name in WEIGHTS if (place / name).is_file()), None)
        if weights is None or not (architecture or (place / CONFIG).is_file()):
            raise ValueError(
                f"{place} is no directory of open_clip: give one with {CONFIG} and "
                f"{' or '.join(WEIGHTS)}"
            )
    else:
        weights = place
    if weights.name not in WEIGHTS or not (folder / CONFIG).is_file():
        config = None
    tokenizer = next((d for d in (folder / "tokenizer", folder) if _has_tokenizer(d)), None)
    return Place(architecture, weights, config, tokenizer)


def _has_tokenizer(directory: Path) -> bool:
    return any((directory / name).is_file() for name in TOKENIZER[:2])


def package() -> Any:
    """open_clip; ValueError with the command that installs it where it is not here."""
    try:
        import open_clip
    except ImportError as error:
        raise ValueError(
            f"a backbone {PREFIX}... needs the package open_clip_torch ({error}): run "
            'pip install "open_clip_torch>=2.30,<4" "transformers>=4.50,<6"'
        ) from error
    return open_clip


# The architecture


def described(place: Place, name: str) -> tuple[Json, Preprocessing]:
    """The config of the architecture, and how the model wants its images."""
    if place.config is None:
        config: Json = package().get_model_config(place.architecture)
        images = _published_images(place.architecture)
    else:
        config, images = _read(place.config)
        if place.architecture:
            _check_same(config, package().get_model_config(place.architecture), place)
    if "multimodal_cfg" in config:
        raise ValueError(f"{name} is a CoCa, which also writes captions: take another model")
    return config, images


def _read(file: Path) -> tuple[Json, Preprocessing]:
    said = read_json(file)
    try:
        config = said.get("model_cfg", said)
        large = [key for key, value in _normal(config).items() if _is_large(key, value)]
        if large:
            raise ValueError(f"{file} has a {large[0]} that no model has: get the file again")
        images = vars(package().transform.PreprocessCfg()) | (said.get("preprocess_cfg") or {})
        return config, open_clip_images(images, f"{file}, preprocess_cfg,")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is no config of open_clip's ({error!r}): get the file again"
        ) from error


def _is_large(key: str, value: object) -> bool:
    return isinstance(value, int) and value > (256 if key.endswith("layers") else 2**20)


def _published_images(architecture: str) -> Preprocessing:
    """What all published weights of an architecture agree about."""
    tags = package().list_pretrained_tags_by_model(architecture)
    said = [package().get_pretrained_cfg(architecture, tag) for tag in tags]
    agreed = {}
    for key in ("mean", "std", "interpolation", "resize_mode"):
        values = [node.get(key) for node in said]
        agreed[key] = values[0] if values and all(v == values[0] for v in values) else None
    return open_clip_images({k: v for k, v in agreed.items() if v is not None}, architecture)


def _check_same(config: Json, known: Json, place: Place) -> None:
    """ValueError where a config and the architecture that was named are of two models."""
    there, named = _normal(config), _normal(known)
    differ = [key for key in there if there[key] != named[key]]
    if differ:
        raise ValueError(
            f"{place.config} has {differ[0]} {there[differ[0]]!r}, and {place.architecture} has "
            f"{named[differ[0]]!r}: correct the architecture, or leave it out "
            f"({PREFIX}{place.weights.parent})"
        )


def _normal(config: Json) -> Json:
    """All words of an architecture, those that a config leaves out with their defaults."""
    model = package().model
    vision = vars(model.CLIPVisionCfg(**config["vision_cfg"]))
    text = vars(model.CLIPTextCfg(**config["text_cfg"]))
    flat = {f"vision.{k}": v for k, v in vision.items()} | {f"text.{k}": v for k, v in text.items()}
    flat |= {"embed_dim": config["embed_dim"], "quick_gelu": config.get("quick_gelu", False)}
    return {key: value for key, value in flat.items() if key not in BESIDE}


def build(config: Json, name: str) -> Any:
    """open_clip's model, with weights that mean nothing yet."""
    config = deepcopy(config)
    text_tower = config["text_cfg"].get("hf_model_name")
    own_text = config.pop("custom_text", False) or text_tower
    config["vision_cfg"]["timm_model_pretrained"] = False
    config["text_cfg"]["hf_model_pretrained"] = False
    kind = package().CustomTextCLIP if own_text else package().CLIP
    try:
        if text_tower:
            from transformers import AutoConfig

            AutoConfig.from_pretrained(text_tower, trust_remote_code=False)  # runs no code of it
        with torch.random.fork_rng(devices=[]):
            return kind(**config)
    except OSError as error:
        raise OSError(
            f"{name} needs the config of {text_tower}, which is neither in the cache of the "
            f"Hugging Face hub nor could be fetched ({_reason(error)}). Run it once with a "
            f"network, or set hf_model_name in {CONFIG} to a directory that has its config.json"
        ) from error
    except Exception as error:  # whatever a config provokes
        raise ValueError(
            f"open_clip cannot make {name} ({_reason(error)}): get its config again, or a newer "
            "open_clip_torch and timm"
        ) from error


def fill(model: Any, file: Path, quick_gelu: bool, name: str) -> None:
    """Load the weights; ValueError unless every tensor is there, and of the right shape."""
    found = read_file(file)
    if found.facts and (found.facts.activation == "quick_gelu") != quick_gelu:
        raise ValueError(
            f"{found.facts.source} says activation {found.facts.activation}, and the architecture "
            f"of {name} has quick_gelu {quick_gelu}: give the one with or without -quickgelu"
        )
    state = {key.removeprefix("module."): value for key, value in found.state.items()}
    own = model.state_dict()
    try:
        if "positional_embedding" in state and "positional_embedding" not in own:
            state = package().model.convert_to_custom_text_state_dict(state)
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


# The tokenizer


def tokenizer_of(text: Json, place: Place, name: str) -> Any:
    """As open_clip.get_tokenizer has it, of a local directory if there is one."""
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    words, source = text.get("tokenizer_kwargs") or {}, text.get("hf_tokenizer_name")
    if words.keys() - TOKENIZER_WORDS or text.get("tokenizer_mode"):
        raise ValueError(
            f"{name} asks for a tokenizer with {words}, mode {text.get('tokenizer_mode')}; allowed "
            f"are {', '.join(sorted(TOKENIZER_WORDS))}, and no mode: take another model"
        )
    length = text.get("context_length", 77)
    if not source:
        return SimpleTokenizer(context_length=length, **words)
    try:
        place_or_name = str(place.tokenizer or source)
        return HFTokenizer(place_or_name, length, trust_remote_code=False, **words)
    except Exception as error:  # whatever files, network and versions provoke
        folder = place.weights.parent
        raise OSError(
            f"the tokenizer {place.tokenizer or source} of {name} could not be loaded "
            f"({_reason(error)}). Put its files (tokenizer.json, tokenizer_config.json, ...) into "
            f"{folder} or {folder / 'tokenizer'}, or run once with a network"
        ) from error


def _reason(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
