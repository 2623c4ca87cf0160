"""`FrozenCLIP`: a CLIP in eval mode that is never trained; trainers use it through this class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from frozen_clip import prompts as prompting
from frozen_clip.prompts import Prompts
from frozen_clip.properties import Preprocessing, properties_of
from frozen_clip.text import TextTower
from frozen_clip.vision import VisionTower

if TYPE_CHECKING:
    from clip.model import CLIP, VisionTransformer

Self = TypeVar("Self", bound="Frozen")


class Loaded(NamedTuple):
    """Where a CLIP came from: hash of its files, source of its properties, images it is for."""

    sha256: str | None = None
    source: str = "made in memory"
    images: Preprocessing = Preprocessing()


class Frozen(nn.Module):
    """A module around a `clip`, always in evaluation mode and without gradients."""

    clip: Any

    def train(self: Self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever `mode` is."""
        return super().train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        if requires_grad:
            raise ValueError("FrozenCLIP stays frozen: train a module of your own beside it")
        return super().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        return self.clip.logit_scale.dtype

    @property
    def device(self) -> torch.device:
        return self.clip.logit_scale.device

    @property
    def scale(self) -> Tensor:
        """The learned temperature of CLIP's logits, `exp(logit_scale)`, a 0-d tensor."""
        return self.clip.logit_scale.exp().reshape(())


class FrozenCLIP(Frozen):
    """Wraps OpenAI's `clip.model.CLIP`; teacher and student are this one object.

    name: what it was loaded from, for messages
    text, vision: the towers; `vision` exists for ViT CLIPs only
    image_size: pixels of the square input. embed_dim: E of the joint space
    dtype: of the frozen weights; learned tokens are emitted in it
    known_ids: token ids that the weights have word vectors for; None for all
    loaded: where the weights came from
    """

    def __init__(
        self,
        clip_model: CLIP,
        name: str,
        known_ids: Tensor | None = None,
        loaded: Loaded = Loaded(),  # noqa: B008
    ):
        super().__init__()
        self.name = name
        self.loaded = loaded
        self.known_ids = known_ids
        self.clip = clip_model
        self.clip.requires_grad_(False).eval()
        self.text = TextTower(clip_model)
        self.image_size = int(clip_model.visual.input_resolution)
        self.embed_dim = clip_model.text_projection.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.clip.dtype

    @property
    def origin(self) -> dict[str, object]:
        """What was loaded, and how it computes, for the record of a run."""
        activation, (vision, text) = properties_of(self.clip)
        return {
            "sha256": self.loaded.sha256,
            "activation": activation,
            "heads": {"vision": vision, "text": text},
            "source": self.loaded.source,
        }

    @property
    def is_vit(self) -> bool:
        return hasattr(self.clip.visual, "transformer")

    @cached_property
    def vision(self) -> VisionTower:
        """The vision tower; ValueError for ResNet CLIPs, whose layers cannot be edited."""
        if not self.is_vit:
            raise ValueError(
                f"{self.name} is a ResNet CLIP: it has no tokens to edit. Methods that learn "
                "tokens in the vision tower need a ViT, for example ViT-B/16"
            )
        return VisionTower(cast("VisionTransformer", self.clip.visual))

    @property
    def vision_projection(self) -> Tensor:
        """`proj` (D, E): from the vision tower's width to the joint space."""
        return self.vision.visual.proj

    def prompts(
        self, classnames: Sequence[str], template: str, underscores: bool = False
    ) -> Prompts:
        """One prompt per class, on this CLIP's device; arguments and ValueError as in
        `frozen_clip.prompts`."""
        texts = prompting.fill_template(classnames, template, underscores)
        ids_CL = prompting.tokenize(texts, self.clip.context_length)
        prompting.warn_of_unknown(ids_CL, classnames, self.known_ids, self.name)
        return prompting.build(ids_CL).to(self.device)

    def encode_text(self, prompts: Prompts) -> Tensor:
        """Zero-shot text features (C, E), not normalized."""
        with torch.no_grad():
            return self.text(prompts)

    def encode_image(self, images: Tensor) -> Tensor:
        """Zero-shot image features (N, E) of normalized images (N, 3, H, W), not normalized."""
        with torch.no_grad():
            if not self.is_vit:
                return self.clip.visual(images.to(self.dtype))
            return self.vision(images).edited[:, 0] @ self.vision_projection
