"""A state dict of OpenAI, open_clip or transformers -> `clip.model.CLIP` with these weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frozen_clip.weights.files import StateDict

if TYPE_CHECKING:
    from clip.model import CLIP

VOCABULARY = 49408  # tokens of OpenAI's tokenizer
NOT_WEIGHTS = (
    "input_resolution",
    "context_length",
    "vocab_size",
    "attn_mask",
)  # in OpenAI's
# Parts of names in transformers' CLIPModel, and in OpenAI's.
HUGGING_FACE = {
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.": "visual.conv1.",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.post_layernorm.": "visual.ln_post.",
    "visual_projection.weight": "visual.proj",
    "text_model.encoder.layers.": "transformer.resblocks.",
    "text_model.embeddings.token_embedding.": "token_embedding.",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.": "ln_final.",
    "text_projection.weight": "text_projection",
    ".self_attn.out_proj.": ".attn.out_proj.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}


def build(
    state: StateDict, source: str = "state dict", expected: dict[str, object] | None = None
) -> CLIP:
    """`clip.model.CLIP` with these weights, its sizes read from their shapes.

    It computes as OpenAI's do, with QuickGELU and heads that are 64 wide. `expected` are sizes by
    the names of `clip.model.CLIP`'s arguments. No random number is drawn.

    Raises ValueError for names or shapes of anything but a whole CLIP of OpenAI's kind, and for
    sizes other than expected.
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


# Names


def openai_names(state: StateDict, source: str) -> StateDict:
    """The same tensors under OpenAI's names; ValueError for what cannot be a whole CLIP."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if key not in NOT_WEIGHTS}
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.numel() > _stored(value):
            raise ValueError(f"{source} does not hold CLIP weights: {key!r} is no plain tensor")
    _check_is_clip(state, source)
    if any(key.startswith("text_model.") for key in state):
        return _from_hugging_face(state, source)
    if "text.token_embedding.weight" in state:  # open_clip, `custom_text`
        return {key.removeprefix("text."): value for key, value in state.items()}
    return state


def _stored(tensor: Tensor) -> int:
    """How many values a tensor really has; none if it is no dense one with memory of its own."""
    if tensor.layout != torch.strided or tensor.is_meta:
        return -1
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _check_is_clip(state: StateDict, source: str) -> None:
    """ValueError for a model of another kind, and for one tower of a CLIP."""
    vision, text, timm = (
        any(key.startswith(start) for key in state)
        for start in (
            ("visual.", "vision_model."),
            ("transformer.", "text.", "text_model.", "token_embedding."),
            ("visual.trunk.", "visual.head.", "vision_model.head."),
        )
    )
    if timm or "logit_bias" in state:
        raise ValueError(
            f"{source} holds a model of another kind than OpenAI's CLIP, such as SigLIP: its "
            "layers are others, and cannot be edited. Take a CLIP, such as ViT-B/16; a method that "
            "needs features alone takes this one as open_clip:ARCHITECTURE/PATH"
        )
    if vision != text:
        has, lacks = ("vision", "text") if vision else ("text", "vision")
        raise ValueError(
            f"{source} holds the {has} tower of a CLIP and no {lacks} tower: give the weights of "
            "the whole model"
        )


def _from_hugging_face(state: StateDict, source: str) -> StateDict:
    found: StateDict = {}
    for key, value in state.items():
        for theirs, ours in HUGGING_FACE.items():
            key = key.replace(theirs, ours)
        if not key.endswith(".position_ids"):  # 0 to 76, in old files
            found[key] = value
    for name in ("visual.proj", "text_projection"):
        if name in found:
            found[name] = found[name].T.contiguous()
    for key in [key for key in found if ".self_attn.q_proj." in key]:
        parts = [key.replace("q_proj", f"{letter}_proj") for letter in "qkv"]
        missing = [part for part in parts if part not in found]
        if missing:
            raise ValueError(f"{source} lacks {missing[0]}: get the file again")
        fused = torch.cat([found.pop(part) for part in parts])
        found[key.replace(".self_attn.q_proj.", ".attn.in_proj_")] = fused
    return found


# Sizes


def _check_sizes(sizes: dict[str, Any], expected: dict[str, object]) -> None:
    for name, said in expected.items():
        found = list(sizes[name]) if isinstance(sizes[name], tuple) else sizes[name]
        if found != said:
            raise ValueError(
                f"its config says {name} {said}, but its tensors are of {found}. Config and "
                "weights are not of one model: get both again"
            )
    if sizes["vocab_size"] != VOCABULARY:
        raise ValueError(
            f"it has word vectors for {sizes['vocab_size']} tokens, and OpenAI's tokenizer, which "
            f"is used here, has {VOCABULARY}: take another model"
        )


def _sizes(state: StateDict) -> dict[str, Any]:
    """The arguments of `clip.model.CLIP` that fit a state dict."""
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
