"""KgCoOp: CoOp whose text features are held to those of the frozen CLIP.

CVPR 2023, arXiv 2303.13283. The words and the forward pass are CoOp's (`trainers.coop`), always
in front of the class name. What differs is the loss: cross-entropy, and the distance between a
class's feature and the frozen CLIP's feature of the dataset's sentence.

Trained: the context, and nothing else.

Unseen classes: the learned words in front of their names; the distance is not needed there.

    w    text feature of a class      w0   the same of the frozen CLIP
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from trainers.coop import CoOp, CoOpMethod, PlacedWords
from training.learned_context import N_CTX, Context
from training.method import normalize
from training.settings import WEIGHT, YES_NO, key, number, one_of

WORDS = "a photo of a"


@dataclass(frozen=True)
class KgCoOpSettings(PlacedWords):
    own_templates: ClassVar = {"DescribableTextures": "a photo of a {}, a type of texture."}

    class_token_position: str = key(
        "end", one_of(("end",)), "behind the context; the published code ignores the key"
    )
    n_ctx: int = key(16, N_CTX, "learned words (K), if CTX_INIT is False", fixed=True)
    ctx_init: bool = key(
        False, YES_NO, f"the context starts as {WORDS!r} (K = 4); False: random vectors", fixed=True
    )
    w: float = key(1.0, WEIGHT, "weight of the distance between w and w0")
    alpha: float = key(1.0, number(), "changes nothing; the published code has it, unused")

    @property
    def context(self) -> Context:
        return Context(WORDS) if self.ctx_init else Context(count=self.n_ctx)

    @property
    def needs_template(self) -> bool:
        return True  # for w0


class Outputs(NamedTuple):
    """Of a training forward."""

    logits: Tensor  # (N, C)
    w: Tensor  # (C, E), normalized


class KgCoOpMethod(CoOpMethod):
    """CoOp's forward pass, and a loss that holds its text features to the frozen CLIP's."""

    Settings = KgCoOpSettings
    settings: KgCoOpSettings
    w0: Tensor

    def prepare(self, classnames: Sequence[str]) -> None:
        super().prepare(classnames)
        w0 = normalize(self.clip.encode_text(self.clip.prompts(classnames, self.template)))
        self.register_buffer("w0", w0, persistent=False)

    def forward(self, images: Tensor) -> Outputs:
        w = self.text_features()
        return Outputs(self.classify(images, w, seen=True), w)

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """The paper's loss: cross-entropy, and W times the mean of 1 - cos(w, w0)."""
        distance = 1 - (outputs.w * self.w0).sum(dim=-1).mean()
        ce = F.cross_entropy(outputs.logits, labels)
        return {"ce": ce, "kg": self.settings.w * distance}

    def training_logits(self, outputs: Outputs) -> Tensor:
        return outputs.logits


@TRAINER_REGISTRY.register()
class KgCoOp(CoOp):
    node = "KGCOOP"
    Method = KgCoOpMethod
    published_keys: ClassVar[dict[str, str]] = {"TRAINER.COOP.*": "*"}
