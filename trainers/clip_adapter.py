"""CLIP-Adapter: a small net behind the image tower, mixed with the feature that it reads.

IJCV 2024, arXiv 2110.04544. Text features are those of zero-shot CLIP: the paper's default
variant, and the only one of the published code. Both towers are frozen and take no gradients.

Trained: the two matrices of the net. Unseen classes: the same, since no part of it is for a class.

    E joint space      f0  image feature of CLIP      w0  text feature of CLIP
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP
from training.feature_adapter import FeatureAdapter, ratio
from training.method import Method, cosine_logits, normalize
from training.settings import MethodSettings, key, precision, whole
from training.trainer import CLIPTrainer


@dataclass(frozen=True)
class CLIPAdapterSettings(MethodSettings):
    prec: str = precision("fp32")
    ratio: float = ratio(0.2, "the image feature")
    reduction: int = key(4, whole(1, 1024), "E / REDUCTION is the net's hidden width", fixed=True)

    def check(self, clip: FrozenCLIP) -> None:
        if self.reduction > clip.embed_dim:
            raise ValueError(
                f"{self.key('REDUCTION')} is {self.reduction}, but the features of {clip.name} "
                f"have {clip.embed_dim} numbers: the net would have no hidden unit. Allowed are 1 "
                f"to {clip.embed_dim}"
            )


class CLIPAdapterMethod(Method):
    """`exp(logit_scale) * cos(f, w0)` with f the adapted f0."""

    Settings = CLIPAdapterSettings
    settings: CLIPAdapterSettings
    w0: Tensor

    def build_learner(self, classes: int) -> FeatureAdapter:
        return FeatureAdapter(self.clip.embed_dim, self.settings.ratio, self.settings.reduction)

    def prepare(self, classnames: Sequence[str]) -> None:
        self.register_buffer("w0", normalize(self.clip.encode_text(self.prompts)), persistent=False)

    def text_features(self) -> Tensor:
        """w0 (C, E), normalized."""
        return self.w0

    def of_features(self, f: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(normalize(self.learner(f.float())), w, self.clip.scale)


@TRAINER_REGISTRY.register()
class CLIP_Adapter(CLIPTrainer):
    node = "CLIPADAPTER"
    Method = CLIPAdapterMethod
    model_name = "clip_adapter"
    needs_layers = False  # features are enough
