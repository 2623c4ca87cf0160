"""`FeatureCLIP`: a model of open_clip that gives features alone, such as SigLIP.

The package open_clip_torch computes, so that no layer can be edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from frozen_clip import prompts as prompting
from frozen_clip.model import Frozen, Loaded
from frozen_clip.prompts import Prompts


class FeatureCLIP(Frozen):
    """What methods that need features alone use of a `FrozenCLIP`, around a model of open_clip.

    clip, tokenizer: of open_clip. origin: what was loaded, for the record of a run. The rest is as
    in `FrozenCLIP`.
    """

    def __init__(
        self, model: Any, tokenizer: Any, name: str, loaded: Loaded, origin: dict[str, Any]
    ):
        super().__init__()
        self.name, self.loaded, self.origin = name, loaded, origin
        self.known_ids = None
        self.clip = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.image_size = _square(model.visual.image_size, name)
        self.embed_dim = int(origin["embed_dim"])

    def prompts(
        self, classnames: Sequence[str], template: str, underscores: bool = False
    ) -> Prompts:
        """One prompt per class, uncut; arguments and ValueError as in `frozen_clip.prompts`."""
        texts = prompting.fill_template(classnames, template, underscores)
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
        """Tokens of a text, start and end included; the tokenizer itself cuts silently."""
        if hasattr(self.tokenizer, "encode"):  # byte pairs, between start and end
            return len(self.tokenizer.encode(text)) + 2
        return len(self.tokenizer.tokenizer(self.tokenizer.clean_fn(text)).input_ids)

    @torch.no_grad()
    def encode_text(self, prompts: Prompts) -> Tensor:
        """Text features (C, E), not normalized."""
        return self.clip.encode_text(prompts.ids_CL)

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """Image features (N, E) of normalized images (N, 3, H, W), not normalized."""
        return self.clip.encode_image(images.to(self.dtype))


def _square(size: Any, name: str) -> int:
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if height != width:
        raise ValueError(f"{name} takes images of {height} x {width}, not squares: take another")
    return int(height)
