"""VPT: visual prompt tuning of CLIP, deep prompts in the vision tower alone.

ECCV 2022, arXiv 2203.12119, as MaPLe (arXiv 2210.03117) compares with it. What differs from
IVLP (`trainers.ivlp`): nothing is learned in the text tower, whose features of the fixed
prompts are computed once.

Trained: the tokens of the vision tower. Unseen classes: the text features of their fixed prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP
from trainers.ivlp import IVLPMethod, VisionPrompts, VisionSettings
from training.checks import check_template
from training.method import normalize
from training.settings import WORDS, key
from training.trainer import CLIPTrainer


@dataclass(frozen=True)
class VPTSettings(VisionSettings):
    ctx_init: str = key(
        "a photo of a", WORDS, "what the prompts say in front of the class name", fixed=True
    )

    @property
    def template(self) -> str:
        return f"{self.ctx_init.replace('_', ' ')} {{}}.".strip()

    def check(self, clip: FrozenCLIP) -> None:
        super().check(clip)
        check_template(self.template, self.key("CTX_INIT"), clip)


class VPTMethod(IVLPMethod):
    """IVLP's image features against zero-shot text features."""

    Settings, Learner = VPTSettings, VisionPrompts
    w0: Tensor

    def prepare(self, classnames: Sequence[str]) -> None:
        self.register_buffer("w0", normalize(self.clip.encode_text(self.prompts)), persistent=False)

    def text_features(self) -> Tensor:
        """w0 (C, E), normalized."""
        return self.w0


@TRAINER_REGISTRY.register()
class VPT(CLIPTrainer):
    node = "VPT"
    Method = VPTMethod
    model_name = "VLPromptLearner"
