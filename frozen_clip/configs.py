"""The configs that stand beside weights, open_clip's and Hugging Face's: facts, sizes, images.

They describe many more models than `frozen_clip` computes. What would make a model compute
something else than OpenAI's CLIP is refused, and so is a word that is not known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from frozen_clip.facts import ACTIVATIONS, Facts, Preprocessing

Json = dict[str, Any]


class Config(NamedTuple):
    facts: Facts
    expected: dict[str, tuple[str, object]]
    images: Preprocessing = Preprocessing()


def read_json(path: Path) -> Json:
    """ValueError for a file that is no JSON with keys and values."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): get the file again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold keys and values, not a {type(content).__name__}")
    return content


def refuse_others(node: Json, neutral: Json, free: Iterable[str], where: str) -> None:
    """ValueError for a key that is neither `free` nor has its neutral value."""
    for key, value in node.items():
        if key not in free and (key not in neutral or value != neutral[key]):
            raise ValueError(
                f"{where} has {key} {value!r:.80}, with which something else is computed than by "
                "OpenAI's CLIP, so that no layer can be edited. Take another model, such as "
                "ViT-B/16; a method that needs features alone takes it as open_clip:DIRECTORY"
            )


# open_clip: open_clip_config.json has a `model_cfg` as in open_clip's model_configs/

BLOCKS: Json = {
    "mlp_ratio": 4.0,
    "ls_init_value": None,
    "final_ln_after_pool": False,
    "act_kwargs": None,
    "norm_kwargs": None,
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}
VISION: Json = {
    **BLOCKS,
    "attentional_pool": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "pool_type": "tok",
    "timm_model_name": None,
}
TEXT: Json = {
    **BLOCKS,
    "vocab_size": 49408,
    "hf_tokenizer_name": None,
    "tokenizer_mode": None,
    "tokenizer_kwargs": None,
    "embed_cls": False,
    "no_causal_mask": False,
    "pool_type": "argmax",
    "proj_bias": False,
    "proj_type": "linear",
    "hf_model_name": None,
}
# What is said elsewhere, concerns training alone, or means nothing with the values above.
VISION_FREE = (
    *("image_size", "layers", "width", "head_width", "patch_size", "patch_dropout"),
    *("output_tokens", "attn_pooler_queries", "attn_pooler_heads", "timm_model_pretrained"),
    *("timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"),
)
TEXT_FREE = (
    *("context_length", "width", "heads", "layers", "output_tokens", "pad_id", "eos_id"),
    *("hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
)


def open_clip_config(path: Path) -> Config:
    content = read_json(path)
    model = content.get("model_cfg", content)
    try:
        vision, text = model["vision_cfg"], model["text_cfg"]
        top = {k: v for k, v in model.items() if k not in ("vision_cfg", "text_cfg")}
        neutral = {"init_logit_bias": None, "multimodal_cfg": None}
        free = ("embed_dim", "quick_gelu", "custom_text", "init_logit_scale", "cast_dtype")
        refuse_others(top, neutral, (*free, "nonscalar_logit_scale"), str(path))
        refuse_others(vision, VISION, VISION_FREE, f"{path}, vision_cfg,")
        refuse_others(text, TEXT, TEXT_FREE, f"{path}, text_cfg,")
        width, layers = vision.get("width", 768), vision.get("layers", 12)
        inner = width * 32 if isinstance(layers, list) else width  # of a ResNet's attention
        heads = inner // vision.get("head_width", 64), text.get("heads", 8)
        activation = {True: "quick_gelu", False: "gelu"}[model.get("quick_gelu", False)]
        return Config(
            Facts(activation, _checked(heads), str(path)),
            {
                "embed_dim": ("embed_dim", model["embed_dim"]),
                "image_resolution": ("image_size", _square(vision.get("image_size", 224))),
                "vision_layers": ("vision_cfg.layers", layers),
                "vision_width": ("vision_cfg.width", width),
                "vision_patch_size": ("patch_size", vision.get("patch_size", 16)),
                "context_length": ("context_length", text.get("context_length", 77)),
                "transformer_width": ("text_cfg.width", text.get("width", 512)),
                "transformer_layers": ("text_cfg.layers", text.get("layers", 12)),
            },
            open_clip_images(content.get("preprocess_cfg") or {}, f"{path}, preprocess_cfg,"),
        )
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"{path} is no config of open_clip's ({error!r}): get the file again"
        ) from error


def _checked(heads: tuple[Any, Any]) -> tuple[int, int]:
    if not all(isinstance(count, int) and count > 0 for count in heads):
        raise TypeError(f"heads {heads}")
    return heads


def _square(size: object) -> object:
    return size[0] if isinstance(size, list) and len(set(size)) == 1 else size


def open_clip_images(node: Json, where: str) -> Preprocessing:
    """How a model wants its images; ValueError for a way that is not known."""
    words = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
    mode, resize = node.get("mode", "RGB"), node.get("resize_mode")
    if node.keys() - words or mode != "RGB" or resize not in (None, "shortest", "squash"):
        raise ValueError(
            f"{where} has {node!s:.300}; allowed are {', '.join(sorted(words))}, mode 'RGB', "
            "resize_mode 'shortest' or 'squash': take another model"
        )
    mean, std, interpolation = (node.get(key) for key in ("mean", "std", "interpolation"))
    return Preprocessing(mean and tuple(mean), std and tuple(std), interpolation, resize)


# Hugging Face: config.json, which leaves out what is transformers' default

RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def hugging_face_config(path: Path) -> Config:
    content = read_json(path)
    kind = content.get("model_type")
    if kind != "clip":
        raise ValueError(
            f"{path} is the config of another architecture, model_type {kind!r}; needed is a "
            "whole CLIP, 'clip' (CLIPModel). Take another model, such as ViT-B/16"
        )
    get_vision = _getter(content, "vision", path)
    get_text = _getter(content, "text", path)
    acts = {str(get("hidden_act", "quick_gelu")) for get in (get_vision, get_text)}
    if len(acts) > 1 or not acts <= set(ACTIVATIONS):
        raise ValueError(
            f"{path} has hidden_act {' and '.join(sorted(acts))}; allowed is one of "
            f"{', '.join(ACTIVATIONS)} in both towers: take another model"
        )
    heads = get_vision("num_attention_heads", 12), get_text("num_attention_heads", 8)
    try:
        heads = _checked(heads)
    except TypeError as error:
        raise ValueError(f"{path} has attention {error}: get the file again") from error
    _check_hugging_face(get_vision, get_text, path)
    images = _hugging_face_images(path.with_name("preprocessor_config.json"))
    expected: dict[str, tuple[str, object]] = {
        "embed_dim": ("projection_dim", content.get("projection_dim", 512))
    }
    for name, get, tower, key, default in (
        ("image_resolution", get_vision, "vision", "image_size", 224),
        ("vision_layers", get_vision, "vision", "num_hidden_layers", 12),
        ("vision_width", get_vision, "vision", "hidden_size", 768),
        ("vision_patch_size", get_vision, "vision", "patch_size", 32),
        ("context_length", get_text, "text", "max_position_embeddings", 77),
        ("transformer_width", get_text, "text", "hidden_size", 512),
        ("transformer_layers", get_text, "text", "num_hidden_layers", 12),
    ):
        expected[name] = (f"{tower}_config.{key}", get(key, default))
    return Config(Facts(acts.pop(), heads, str(path)), expected, images)


def _getter(content: Json, tower: str, path: Path) -> Callable[[str, object], Any]:
    """A tower's settings, which older files say in two places; ValueError where these differ."""
    nodes = [content.get(f"{tower}_{name}") or {} for name in ("config_dict", "config")]
    if not all(isinstance(node, dict) for node in nodes):
        raise ValueError(f"{path}: {tower}_config must hold keys and values: get the file again")

    def get(key: str, default: object) -> Any:
        said = [node[key] for node in nodes if node.get(key) is not None]
        if any(value != said[0] for value in said):
            raise ValueError(
                f"{path} says two things of {key} in {tower}_config and {tower}_config_dict: "
                f"{said[1]!r} and {said[0]!r}. Correct it"
            )
        return said[0] if said else default

    return get


def _check_hugging_face(
    get_vision: Callable[[str, object], Any], get_text: Callable[[str, object], Any], path: Path
) -> None:
    for tower, get in (("vision", get_vision), ("text", get_text)):
        neutral: Json = {"layer_norm_eps": 1e-5}
        found = {"layer_norm_eps": get("layer_norm_eps", 1e-5)}
        if tower == "text":  # 2 was written for years and means the token with the largest id
            end = get("eos_token_id", 49407)
            neutral |= {"vocab_size": 49408, "eos_token_id": 49407}
            found |= {
                "vocab_size": get("vocab_size", 49408),
                "eos_token_id": 49407 if end == 2 else end,
            }
        refuse_others(found, neutral, (), f"{path}, {tower}_config,")


def _hugging_face_images(path: Path) -> Preprocessing:
    if not path.is_file():
        return Preprocessing()
    node = read_json(path)
    mean, std = node.get("image_mean"), node.get("image_std")
    try:
        interpolation = RESAMPLE.get(node.get("resample", -1))
        return Preprocessing(mean and tuple(mean), std and tuple(std), interpolation)
    except TypeError as error:
        raise ValueError(f"{path} does not describe images ({error}): get it again") from error
