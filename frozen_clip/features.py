"""Models of open_clip that give features alone: SigLIP, SigLIP2, EVA02, PE, BiomedCLIP and others.

The package open_clip_torch computes, so that no layer can be edited. It is imported where a name
begins with `open_clip:`, and only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from frozen_clip import architectures
from frozen_clip import prompts as prompting
from frozen_clip.architectures import PREFIX
from frozen_clip.configs import Json
from frozen_clip.files import hash_of
from frozen_clip.finite import check_finite
from frozen_clip.model import Frozen, Loaded
from frozen_clip.prompts import Prompts


def features_only(name: str) -> bool:
    """Whether the model of this name has features alone, and no layers to edit."""
    return name.startswith(PREFIX)


class FeatureCLIP(Frozen):
    """What methods that need features alone use of a `FrozenCLIP`, around a model of open_clip.

    clip: open_clip's model. tokenizer: its own; the rest is as in `FrozenCLIP`
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, loaded: Loaded, origin: Json):
        super().__init__()
        self.name, self.loaded, self.origin = name, loaded, origin
        self.known_ids = None
        self.clip = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.image_size = _square(model.visual.image_size, name)
        self.embed_dim = int(origin["embed_dim"])

    def prompts(self, classnames: Sequence[str], template: str) -> Prompts:
        """One prompt per class, uncut; ValueError as in `frozen_clip.prompts`."""
        texts = prompting.sentences(classnames, template)
        length = self.tokenizer.context_length
        for text in texts:
            prompting.check_count(text, self._count(text), length)
        ids_CL = self.tokenizer(texts).to(self.device)
        if ids_CL.max() >= self.clip.vocab_size:
            raise ValueError(
                f"{self.origin['tokenizer']} is not the tokenizer of {self.name}, which has word "
                f"vectors for {self.clip.vocab_size} tokens: put the files of its own beside the "
                "weights"
            )
        place_C = torch.arange(len(ids_CL), device=self.device)
        return Prompts(ids_CL, ids_CL[0, :0], (ids_CL,), place_C)

    def _count(self, text: str) -> int:
        """How many tokens a text has, those around it included: the tokenizer cuts silently."""
        if hasattr(self.tokenizer, "encode"):  # byte pairs, between start and end
            return len(self.tokenizer.encode(text)) + 2
        return len(self.tokenizer.tokenizer(self.tokenizer.clean_fn(text)).input_ids)

    @torch.no_grad()
    def encode_text(self, prompts: Prompts) -> Tensor:
        """Text features (C, E), not normalised."""
        return self.clip.encode_text(prompts.ids_CL)

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """Image features (N, E) of normalised images (N, 3, H, W), not normalised."""
        return self.clip.encode_image(images.to(self.dtype))


def _square(size: Any, name: str) -> int:
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if height != width:
        raise ValueError(f"{name} takes images of {height} x {width}, not squares: take another")
    return int(height)


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
    place = architectures.find(name, download=True)
    config, images = architectures.described(place, name)
    tokenizer = architectures.tokenizer_of(config["text_cfg"], place, name)
    model = architectures.build(config, name)
    architectures.fill(model, place.weights, config.get("quick_gelu", False), name)
    check_finite(model.state_dict(), f"backbone {name}", "Get its file again")
    bias, fetched = model.logit_bias, config["text_cfg"].get("hf_tokenizer_name")
    origin = {
        "sha256": hash_of(place.files),
        "architecture": place.architecture or None,
        "embed_dim": config["embed_dim"],
        "logit_bias": None if bias is None else bias.item(),
        "tokenizer": str(place.tokenizer or fetched) if fetched else "byte pairs",
        "images": images._asdict(),
        "source": str(place.config or "open_clip.list_models()"),
        "package": f"open_clip_torch {architectures.package().__version__}",
    }
    loaded = Loaded(str(origin["sha256"]), str(origin["source"]), images)
    clip = FeatureCLIP(model, tokenizer, name, loaded, origin)
    _check_computes(clip)
    return clip.to(device)


def _check_computes(clip: FeatureCLIP) -> None:
    """ValueError where an image or a text gives no feature of the joint space."""
    size, width = clip.image_size, clip.embed_dim
    texts = clip.prompts(["x"], "{}")
    try:
        found = clip.encode_image(torch.zeros(1, 3, size, size)), clip.encode_text(texts)
        why = "" if all(f.shape == (1, width) for f in found) else f"not of {width} numbers"
    except Exception as error:  # whatever a config provokes
        why = str(error).strip().split("\n")[0][:200]
    if why:
        raise ValueError(
            f"{clip.name} gives no features of an image of {size} x {size} and a text ({why}): its "
            "config is not of its weights; get both again"
        )
