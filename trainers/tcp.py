"""TCP: textual-based class-aware prompts, tokens made for each class from its zero-shot feature.

CVPR 2024, arXiv 2311.18231. A context in front of the class name is learned as in CoOp. Before one
layer of the text tower its rows are replaced by four tokens of each class, which a small net makes
from what the frozen CLIP says of the class. The loss keeps text features near the frozen ones.

Trained: the context, and the net.

Unseen classes: text features with tokens that the net makes from their own zero-shot features.

    K context words, four      C classes      D width of the text tower      E joint space
    w  text feature of a class      w0  the same of the frozen CLIP and a full sentence
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, OwnTokens, overwrite
from training.checks import check_template
from training.learned_context import Context
from training.method import Method, cosine_logits, normalize
from training.settings import WEIGHT, YES_NO, Allowed, MethodSettings, key, whole
from training.templates import IMAGENETS
from training.trainer import CLIPTrainer

WORDS = 4  # of the context, and tokens of a class
REDUCTION = 4  # of the net's bottleneck
DISTANCE_WEIGHT = 8.0  # of the distance between w and w0, in the paper on all datasets

# The four words that are learned, and what stays behind them; for others 'X X X X {}.'
PROMPTS = {
    "DescribableTextures": "X X X X {} texture.",
    "FGVCAircraft": "X X X X {}, a type of aircraft.",
    "Food101": "X X X X {}, a type of food.",
    "OxfordFlowers": "X X X X {}, a type of flower.",
    "OxfordPets": "X X X X {}, a type of pet.",
    "StanfordCars": "X X X X {}, a type of car",
    "UCF101": "a photo of a person doing {}.",
    **dict.fromkeys(IMAGENETS, "a photo of a {}."),
}


@dataclass(frozen=True)
class TCPSettings(MethodSettings):
    needs_template: ClassVar[bool] = True  # for w0
    own_templates: ClassVar = {  # of w0
        "DescribableTextures": "a photo of a {}, a type of texture.",
        "FGVCAircraft": "a photo of an aircraft {}.",
        "Food101": "a photo of a {}, a type of food.",
    }

    n_ctx: int = key(WORDS, Allowed("4", lambda v: v == WORDS), "the net makes four tokens", True)
    ctx_init: bool = key(False, YES_NO, "start as 'a photo of a', not at random", fixed=True)
    csc: bool = key(False, Allowed("False", lambda v: not v), "all classes share the context", True)
    layer: int = key(9, whole(2, 1000), "layer before which each class gets its tokens", fixed=True)
    w: float = key(1.0, WEIGHT, "changes nothing; published configs have it")

    @property
    def template(self) -> str:
        """Of the prompts with learned words."""
        return PROMPTS.get(self.dataset, "X X X X {}.")

    def check(self, clip: FrozenCLIP) -> None:
        check_template(self.template, "the prompt", clip)
        if self.layer > clip.text.layers:
            raise ValueError(
                f"{self.key('LAYER')} is {self.layer}; allowed for {clip.name} is a layer of its "
                f"text tower from 2 to {clip.text.layers}"
            )


class TokenNet(nn.Module):
    """Tokens of each class from its normalized text feature, through a bottleneck."""

    def __init__(self, embed_dim: int, width: int):
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, embed_dim // REDUCTION)
        self.linear2 = nn.Linear(embed_dim // REDUCTION, WORDS * width)

    def forward(self, w0_CE: Tensor) -> Tensor:
        """(C, E) -> (C, K, D)."""
        h = self.linear1(w0_CE)
        return self.linear2(h * torch.sigmoid(1.702 * h)).unflatten(1, (WORDS, -1))


class ClassAwarePrompts(nn.Module):
    """Everything TCP trains."""

    def __init__(self, settings: TCPSettings, clip: FrozenCLIP):
        super().__init__()
        context = Context("a photo of a") if settings.ctx_init else Context(count=WORDS)
        self.context = nn.Parameter(context.start(clip))
        self.token_net = TokenNet(clip.embed_dim, clip.text.width)


class Outputs(NamedTuple):
    """Of a training forward."""

    logits: Tensor  # (N, C)
    w: Tensor  # (C, E), normalized


class TCPMethod(Method):
    """Prompts with a learned context, and from one layer on tokens of each class."""

    Settings, Learner = TCPSettings, ClassAwarePrompts
    settings: TCPSettings
    w0: Tensor

    def prepare(self, classnames: Sequence[str]) -> None:
        w0 = normalize(self.clip.encode_text(self.clip.prompts(classnames, self.template)))
        self.register_buffer("w0", w0, persistent=False)

    def class_tokens(self) -> Tensor:
        """q (C, K, D)."""
        return self.learner.token_net(self.w0)

    def text_features(self) -> Tensor:
        """w (C, E), normalized."""
        context = self.learner.context.to(self.clip.dtype)
        own = OwnTokens(self.settings.layer, self.class_tokens().to(self.clip.dtype))
        return normalize(self.clip.text(self.prompts, {0: overwrite(context)}, own=own))

    def of_features(self, f: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(normalize(f), w, self.clip.scale)

    def forward(self, images: Tensor) -> Outputs:
        """A training forward of normalized images (N, 3, H, W)."""
        w = self.text_features()
        return Outputs(self.classify(images, w, seen=True), w)

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy, and the weighted distance of w from w0, a mean over classes."""
        distance = 1 - F.cosine_similarity(outputs.w, self.w0).mean()
        return {
            "ce": F.cross_entropy(outputs.logits, labels),
            "cos_text": DISTANCE_WEIGHT * distance,
        }

    def training_logits(self, outputs: Outputs) -> Tensor:
        return outputs.logits


@TRAINER_REGISTRY.register()
class TCP(CLIPTrainer):
    node = "TCP"
    Method = TCPMethod
    model_name = "prompt_learner"
    published_keys: ClassVar[dict[str, str]] = {"TRAINER.COOP.*": "*"}
