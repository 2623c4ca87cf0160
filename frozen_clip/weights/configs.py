"""The config beside weights, open_clip's or transformers': properties, sizes, images.

Such configs describe many more models than `frozen_clip` computes. A config that makes the model
compute anything else than OpenAI's CLIP is refused, and so is an unknown key.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from frozen_clip.properties import ACTIVATIONS, Preprocessing, Properties

Json = dict[str, Any]

# Keys of open_clip that `Config` has, or that concern training alone; or they mean nothing as long
# as all others have their defaults.
FREE = {
    "vision_cfg": (
        *("image_size", "layers", "width", "head_width", "patch_size", "patch_dropout"),
        *("output_tokens", "attn_pooler_queries", "attn_pooler_heads", "timm_model_pretrained"),
        *("timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"),
    ),
    "text_cfg": (
        *("context_length", "width", "heads", "layers", "output_tokens", "pad_id", "eos_id"),
        *("hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
    ),
    "": (
        *("vision_cfg", "text_cfg", "embed_dim", "quick_gelu", "custom_text"),
        *("init_logit_scale", "nonscalar_logit_scale", "cast_dtype"),
    ),
}
OPEN_CLIP_IMAGES = {
    *("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"),
}
RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # of transformers


class Config(NamedTuple):
    """What a config says. sizes: by the names of `clip.model.CLIP`'s arguments."""

    properties: Properties
    sizes: dict[str, object]
    images: Preprocessing


def read_json(path: Path) -> Json:
    """The object in a JSON file; ValueError if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): get the file again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold keys and values, not a {type(content).__name__}")
    return content


def package(name: str, why: str) -> Any:
    """Import open_clip or transformers; ValueError with the command that installs both."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{why} needs the package {name} ({error}): run "
            'pip install "open_clip_torch>=2.30,<4" "transformers>=4.50,<6"'
        ) from error


def first_line(error: BaseException) -> str:
    """What an error of another package says, short enough for a message."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def _refuse(where: str, key: str, value: object) -> None:
    raise ValueError(
        f"{where} has {key} {value!r:.80}, with which something else is computed than by OpenAI's "
        "CLIP, so that no layer can be edited. Take another model, such as ViT-B/16; a method that "
        "needs features alone takes it as open_clip:DIRECTORY"
    )


def _heads(vision: object, text: object) -> tuple[int, int]:
    if not (isinstance(vision, int) and isinstance(text, int) and vision > 0 and text > 0):
        raise TypeError(f"heads {(vision, text)}")
    return vision, text


# open_clip: open_clip_config.json


def read_open_clip(path: Path, images: Json | None = None) -> tuple[Json, Preprocessing]:
    """The architecture in an open_clip_config.json, and the images that it is for.

    images: of its `preprocess_cfg` where that says nothing
    """
    content = read_json(path)
    model = content.get("model_cfg", content)
    complete(model, str(path))
    said = content.get("preprocess_cfg") or {}
    if not isinstance(said, dict):
        raise ValueError(f"{path} has preprocess_cfg {said!r:.80}, no keys: get the file again")
    return model, open_clip_images({**(images or {}), **said}, f"{path}, preprocess_cfg,")


def complete(model: Json, where: str) -> dict[str, Json]:
    """The two towers of an architecture of open_clip, with the defaults of keys that it lacks."""
    classes = package("open_clip", f"the config {where}").model
    try:
        towers = {
            "vision_cfg": vars(classes.CLIPVisionCfg(**model["vision_cfg"])),
            "text_cfg": vars(classes.CLIPTextCfg(**model["text_cfg"])),
            "": {"embed_dim": model["embed_dim"], "quick_gelu": False, **model},
        }
        for tower in towers.values():
            for key, value in tower.items():
                most = 256 if key.endswith("layers") else 2**20
                if isinstance(value, int) and value > most:
                    raise TypeError(f"{key} {value}, which no model has")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where} is no config of open_clip's ({error!r}): get the file again, or a newer "
            "open_clip_torch"
        ) from error
    return towers


def open_clip_config(path: Path) -> Config:
    """Read an open_clip_config.json; ValueError for an architecture other than OpenAI's."""
    model, images = read_open_clip(path)
    towers, defaults = complete(model, str(path)), complete(DEFAULT, str(path))
    for name, tower in towers.items():
        for key, value in tower.items():
            if key not in FREE[name] and value != defaults[name].get(key):
                _refuse(", ".join(filter(None, (str(path), name))), key, value)
    vision, text = towers["vision_cfg"], towers["text_cfg"]
    try:
        inner = vision["width"] * (32 if isinstance(vision["layers"], list) else 1)  # of a ResNet
        heads = _heads(inner // vision["head_width"], text["heads"])
        activation = {True: "quick_gelu", False: "gelu"}[towers[""]["quick_gelu"]]
    except (KeyError, TypeError, ArithmeticError) as error:
        raise ValueError(
            f"{path} is no config of open_clip's ({error!r}): get the file again"
        ) from error
    size = vision["image_size"]
    sizes = {
        "embed_dim": model["embed_dim"],
        "image_resolution": size[0] if isinstance(size, list) and len(set(size)) == 1 else size,
        "vision_layers": vision["layers"],
        "vision_width": vision["width"],
        "vision_patch_size": vision["patch_size"],
        "context_length": text["context_length"],
        "transformer_width": text["width"],
        "transformer_layers": text["layers"],
    }
    return Config(Properties(activation, heads, str(path)), sizes, images)


DEFAULT: Json = {"embed_dim": 512, "vision_cfg": {}, "text_cfg": {}}


def open_clip_images(node: Json, where: str) -> Preprocessing:
    """The images that a model is for; ValueError for an unknown key or way of resizing."""
    mode, resize = node.get("mode", "RGB"), node.get("resize_mode")
    known = not node.keys() - OPEN_CLIP_IMAGES and mode == "RGB"
    if not known or resize not in (None, "shortest", "squash"):
        raise ValueError(
            f"{where} has {node!s:.300}; allowed are {', '.join(sorted(OPEN_CLIP_IMAGES))}, mode "
            "'RGB', resize_mode 'shortest' or 'squash': take another model"
        )
    return _images(node.get("mean"), node.get("std"), node.get("interpolation"), resize, where)


def _images(
    mean: Any, std: Any, interpolation: str | None, resize: str | None, where: str
) -> Preprocessing:
    try:
        return Preprocessing(mean and tuple(mean), std and tuple(std), interpolation, resize)
    except TypeError as error:
        raise ValueError(f"{where} does not describe images ({error}): get it again") from error


# transformers: config.json


def hugging_face_config(path: Path) -> Config:
    """Read a config.json of transformers' CLIPModel; ValueError for any other."""
    content = read_json(path)
    if content.get("model_type") != "clip":
        raise ValueError(
            f"{path} is the config of another architecture, model_type "
            f"{content.get('model_type')!r}; needed is a whole CLIP, 'clip' (CLIPModel). Take "
            "another model, such as ViT-B/16"
        )
    transformers = package("transformers", f"the config {path}")
    try:
        config = transformers.CLIPConfig.from_dict(content)
        vision, text = config.vision_config, config.text_config
        heads = _heads(vision.num_attention_heads, text.num_attention_heads)
    except Exception as error:  # whatever a config provokes
        raise ValueError(
            f"{path} is no config of transformers' CLIPModel ({first_line(error)}): get it again"
        ) from error
    for tower, node, key, allowed in (
        ("vision", vision, "hidden_act", ACTIVATIONS),
        ("text", text, "hidden_act", (vision.hidden_act,)),
        ("vision", vision, "layer_norm_eps", (1e-5,)),
        ("text", text, "layer_norm_eps", (1e-5,)),
        ("text", text, "vocab_size", (49408,)),
        ("text", text, "eos_token_id", (49407, 2)),  # 2: in old configs, the largest id is meant
    ):
        if getattr(node, key) not in allowed:
            _refuse(f"{path}, {tower}_config,", key, getattr(node, key))
    sizes = {
        "embed_dim": config.projection_dim,
        "image_resolution": vision.image_size,
        "vision_layers": vision.num_hidden_layers,
        "vision_width": vision.hidden_size,
        "vision_patch_size": vision.patch_size,
        "context_length": text.max_position_embeddings,
        "transformer_width": text.hidden_size,
        "transformer_layers": text.num_hidden_layers,
    }
    images = _hugging_face_images(path.with_name("preprocessor_config.json"))
    return Config(Properties(vision.hidden_act, heads, str(path)), sizes, images)


def _hugging_face_images(path: Path) -> Preprocessing:
    if not path.is_file():
        return Preprocessing()
    node = read_json(path)
    interpolation = RESAMPLE.get(node.get("resample", -1))
    return _images(node.get("image_mean"), node.get("image_std"), interpolation, None, str(path))
