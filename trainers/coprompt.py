"""CoPrompt: MaPLe held to the frozen CLIP, which looks at another view and reads other sentences.

ICLR 2024, arXiv 2306.01195. Prompts are MaPLe's (`trainers.maple`). What differs:

- behind each tower there is an adapter as of CLIP-Adapter (`training.feature_adapter`);
- the loss keeps text features near those of one of n sentences about each class, another one in
  each step, and image features near those of a second random view of the same image. Both are
  made by the frozen CLIP. A language model wrote the published sentences.

Trained: MaPLe's text tokens and coupling functions, and both adapters.
Unseen classes: the same, from the prompts alone; sentences and second views are for training.

    n sentences of a class, C classes, E joint space
    f, w  features of an image and of a class     f0, e  of its second view and of a sentence
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP
from trainers.maple import CoupledPrompts, MaPLeMethod, MaPLeSettings
from training.feature_adapter import FeatureAdapter, ratio
from training.method import cosine_logits, normalize
from training.sentences import by_number, encode_sentences, read_sentences
from training.settings import WEIGHT, any_value, key, one_of
from training.trainer import CLIPTrainer

FILE = any_value("the path of a file")
SENTENCES = (
    "JSON file {class name: [sentence, ...]}, equally many for each class, needed in training; a "
    "relative path is below the working directory, or else below the project"
)


@dataclass(frozen=True)
class CoPromptSettings(MaPLeSettings):
    w: float = key(8.0, WEIGHT, "weight of both distances to the frozen CLIP")
    distill: str = key("cosine", one_of(("cosine", "mse")), "which distance")
    sentences: str = key("", FILE, SENTENCES)
    image_adapter: float = ratio(0.1, "the image feature")
    text_adapter: float = ratio(0.2, "the text feature")


class AdaptedPrompts(CoupledPrompts):
    """Everything CoPrompt trains."""

    def __init__(self, settings: CoPromptSettings, clip: FrozenCLIP):
        super().__init__(settings, clip)
        self.image_adapter = FeatureAdapter(clip.embed_dim, settings.image_adapter)
        self.text_adapter = FeatureAdapter(clip.embed_dim, settings.text_adapter)


class Outputs(NamedTuple):
    """Of a training forward; features are normalized."""

    logits: Tensor  # (N, C)
    f: Tensor  # (N, E)
    w: Tensor  # (C, E)
    f0: Tensor  # (N, E)
    e: Tensor  # (C, E)


class CoPromptMethod(MaPLeMethod):
    """MaPLe's forward pass with adapters behind it, and a loss that holds it to the frozen CLIP."""

    Settings = CoPromptSettings
    settings: CoPromptSettings
    number: Tensor  # (1), which of the sentences is the teacher: compiled steps read it afresh

    def build_learner(self, classes: int) -> AdaptedPrompts:
        return AdaptedPrompts(self.settings, self.clip)

    def prepare(self, classnames: Sequence[str]) -> None:
        self.register_buffer("number", torch.zeros(1, dtype=torch.long), persistent=False)

    @cached_property
    def sentence_features(self) -> Tensor:
        """Features of the sentences (n, C, E), normalized, made when training asks for them."""
        name = self.settings.key("SENTENCES")
        table = read_sentences(self.settings.sentences, name)
        texts = by_number(table, self.classnames, name)
        return normalize(encode_sentences(self.clip, texts, name))

    def draw_sentence(self) -> None:
        """Draw the sentence of a step: one number for all classes, from torch's generator."""
        self.number.fill_(int(torch.randint(len(self.sentence_features), ())))

    def text_features(self) -> Tensor:
        """w (C, E), normalized."""
        return normalize(self.learner.text_adapter(super().text_features()))

    def image_features(self, images: Tensor) -> Tensor:
        """f (N, E), normalized."""
        return normalize(self.learner.image_adapter(super().image_features(images)))

    def forward(self, images: Tensor) -> Outputs:
        """A training forward of two views of N normalized images (2, N, 3, H, W)."""
        view, second = images
        f, w = self.image_features(view), self.text_features()
        f0 = normalize(self.clip.encode_image(second))
        e = self.sentence_features.index_select(0, self.number)[0]
        return Outputs(cosine_logits(f, w, self.clip.scale), f, w, f0, e)

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the paper's loss, weighted."""
        logits, f, w, f0, e = outputs
        return {
            "ce": F.cross_entropy(logits, labels),
            "text": self.settings.w * self.distance(w, e),
            "image": self.settings.w * self.distance(f, f0),
        }

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """The mean over normalized features (N, E) of 1 - cos, or over all squared differences."""
        if self.settings.distill == "mse":
            return F.mse_loss(a, b)
        return 1 - (a * b).sum(dim=1).mean()

    def training_logits(self, outputs: Outputs) -> Tensor:
        return outputs.logits


@TRAINER_REGISTRY.register()
class CoPrompt(CLIPTrainer):
    node = "CoPrompt"
    Method = CoPromptMethod
    model_name = "MultiModalPromptLearner"
    views = 2
    method: CoPromptMethod
    published_keys: ClassVar[dict[str, str]] = {"TRAINER.W": "W", "TRAINER.DISTILL": "DISTILL"}

    @classmethod
    def check_training(cls, cfg: CfgNode) -> None:
        super().check_training(cfg)
        settings: Any = cls.settings_of(cfg)
        read_sentences(settings.sentences, settings.key("SENTENCES"))

    def before_train(self) -> None:
        """What is wrong with the sentences is said before anything is written."""
        with self.autocast():
            _ = self.method.sentence_features
        super().before_train()

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        with self.autocast():
            self.method.draw_sentence()
        return super().forward_backward(batch)
