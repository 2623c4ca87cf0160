"""What a method is: its maths around a frozen CLIP, and the two formulas that all share."""

from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozen_clip import FrozenCLIP
from training.settings import MethodSettings


def normalize(x: Tensor) -> Tensor:
    """Unit length along the last axis, in float32 whatever autocast says."""
    return F.normalize(x.float(), dim=-1)


def cosine_logits(f: Tensor, w: Tensor, scale: Tensor | float) -> Tensor:
    """`scale * cos` of normalized features (N, E) and (C, E), in float32: (N, C)."""
    with torch.autocast(f.device.type, enabled=False):
        return scale * f @ w.mT


class Method(nn.Module):
    """A method's maths around a frozen CLIP; `learner` owns every trained parameter.

    To be given by a method: `Settings` and `Learner`; `text_features()`, constants of the weights
    (C, E), or None where they depend on the image; and `classify(images, w, seen)`, logits (N, C)
    given those, where `seen` says whether the classes are those of training. A method whose image
    side is the frozen CLIP has `of_features(f, w, seen)` instead. One that trains on
    more than the cross-entropy of its logits also gives the three methods below it.

    settings: what the config says; its own template, if it has one, goes before `template`, which
        is the dataset's
    classnames: C of them, in the order of their labels
    """

    Settings: type[MethodSettings] = MethodSettings
    Learner: Callable[..., nn.Module]  # of settings and CLIP
    learner: Any

    def __init__(
        self, settings: Any, clip: FrozenCLIP, classnames: Sequence[str], template: str = "{}"
    ):
        super().__init__()
        settings.check(clip)
        self.settings, self.clip = settings, clip
        self.classnames, self.template = list(classnames), settings.template_for(template)
        self.prompts = clip.prompts(classnames, settings.template or self.template)
        self.learner = self.build_learner(len(classnames))
        self.prepare(classnames)

    def build_learner(self, classes: int) -> nn.Module:
        """What is trained, as it starts: the only draw from torch's generator."""
        return self.Learner(self.settings, self.clip)

    def prepare(self, classnames: Sequence[str]) -> None:
        """Compute what is constant, such as features of the frozen CLIP."""

    def text_features(self) -> Tensor | None:
        raise NotImplementedError

    def classify(self, images: Tensor, w: Any, seen: bool) -> Tensor:
        return self.of_features(self.frozen_features(images), w, seen)

    def frozen_features(self, images: Tensor) -> Tensor:
        """The frozen CLIP's features (N, E), not normalized, of images, or `images` if these are
        such features already."""
        return images if images.dim() == 2 else self.clip.encode_image(images)

    def of_features(self, f: Tensor, w: Any, seen: bool) -> Tensor:
        """Logits (N, C) of the frozen CLIP's image features (N, E), which are not normalized."""
        raise NotImplementedError

    @classmethod
    def reads_features(cls) -> bool:
        """Whether the frozen CLIP's image features are all that it takes of an image."""
        is_ours = cls.frozen_features is Method.frozen_features
        return is_ours and cls.classify is Method.classify

    def forward(self, images: Tensor) -> Any:
        """The outputs of a training step on normalized images (N, 3, H, W)."""
        return self.classify(images, self.text_features(), seen=True)

    def losses(self, outputs: Any, labels: Tensor) -> dict[str, Tensor]:
        """Named terms, whose sum is minimized."""
        return {"ce": F.cross_entropy(outputs, labels)}

    def backward(self, terms: dict[str, Tensor], scale: Callable[[Tensor], Tensor]) -> Tensor:
        """Add the learner's gradients, of a loss that `scale` multiplies; the loss itself."""
        loss = reduce(torch.add, terms.values())
        scale(loss).backward()
        return loss

    def training_logits(self, outputs: Any) -> Tensor:
        """The logits (N, C) that the training accuracy is of."""
        return outputs

    def of_checkpoint(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """A checkpoint's tensors for the classes of this method."""
        return state

    def describe(self, seen: bool) -> dict[str, object]:
        """How `classify` makes logits of features, for people who use it elsewhere."""
        return {"scale": float(self.clip.scale), "logits": "scale * (f @ w.T)"}
