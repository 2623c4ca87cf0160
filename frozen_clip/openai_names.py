"""Tensors under the names that other code gives them -> under OpenAI's."""

from __future__ import annotations

import torch
from torch import Tensor

from frozen_clip.files import StateDict

NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # of OpenAI's, too
# Of transformers' CLIPModel. In front of a block's tensors stands `<tower>.encoder.layers.<i>.`.
HUGGING_FACE = {
    "logit_scale": "logit_scale",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "visual_projection.weight": "visual.proj",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_projection.weight": "text_projection",
}
TOWERS = {"vision_model": "visual.transformer", "text_model": "transformer"}
IN_BLOCKS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
TRANSPOSED = ("visual.proj", "text_projection")


def is_hugging_face(state: StateDict) -> bool:
    return any(key.startswith(("vision_model.", "text_model.")) for key in state)


def openai_names(state: StateDict, source: str) -> StateDict:
    """The same tensors under OpenAI's names; ValueError unless it is a whole CLIP of its kind."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if key not in NOT_WEIGHTS}
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.numel() > _stored(value):
            raise ValueError(f"{source} does not hold CLIP weights: {key!r} is no plain tensor")
    _check_is_clip(state, source)
    if is_hugging_face(state):
        state = _from_hugging_face(state, source)
    elif "text.token_embedding.weight" in state:  # open_clip, `custom_text`
        state = {key.removeprefix("text."): value for key, value in state.items()}
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
        stem, _, kind = key.rpartition(".")
        tower, _, rest = key.partition(".encoder.layers.")
        if key.endswith(".position_ids") or ".self_attn.k_proj." in key or ".v_proj." in key:
            continue  # numbers from 0; and what goes with q_proj
        if key in HUGGING_FACE:
            name = HUGGING_FACE[key]
            found[name] = value.T.contiguous() if name in TRANSPOSED else value
        elif stem in HUGGING_FACE:
            found[f"{HUGGING_FACE[stem]}.{kind}"] = value
        elif tower in TOWERS:
            number, _, part = rest.partition(".")
            name = f"{TOWERS[tower]}.resblocks.{number}"
            part, _, kind = part.rpartition(".")
            if part == "self_attn.q_proj":
                found[f"{name}.attn.in_proj_{kind}"] = _fused(state, key, source)
            else:
                found[f"{name}.{IN_BLOCKS.get(part, part)}.{kind}"] = value
        else:
            found[key] = value  # is refused with what does not fit
    return found


def _fused(state: StateDict, query: str, source: str) -> Tensor:
    keys = [query.replace("q_proj", f"{letter}_proj") for letter in "qkv"]
    missing = [key for key in keys if key not in state]
    if missing:
        raise ValueError(f"{source} lacks {missing[0]}: get the file again")
    return torch.cat([state[key] for key in keys])
