"""ProGrad: CoOp whose gradient never points against the frozen CLIP's answers.

ICCV 2023, arXiv 2205.14865. The words and the forward pass are CoOp's (`trainers.coop`). What
differs is the update: there are two losses, the cross-entropy, and the divergence from the
zero-shot predictions. Where the gradient of the first would raise the second, that part of it
is taken out.

Trained: the context, and nothing else.

Unseen classes: the learned words in front of their names, as in CoOp.

    K context words      z  logits of an image      q  its zero-shot probabilities
    a  gradient of the cross-entropy                b  gradient of the divergence
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP
from trainers.coop import CoOp, CoOpMethod, PlacedWords
from training.learned_context import N_CTX, Context
from training.method import cosine_logits, normalize
from training.settings import WEIGHT, YES_NO, key, number, one_of

UNUSED = "changes nothing; the published code has it, unused"


class LastWords(Context):
    """`words` in the last of `count` places; those before them start as zero vectors.

    Words are counted by spaces. Where one is several tokens, as 'pet,' is, the last tokens have
    no place: they stay as they are, between the context and the class name. Where the name is
    moved (CLASS_TOKEN_POSITION) they are taken for its first tokens.
    """

    def __init__(self, words: str, count: int):
        self.empty = count - len(words.split())
        super().__init__(" ".join(["X"] * self.empty + [words]), count)

    def start(self, clip: FrozenCLIP) -> Tensor:
        start = super().start(clip)
        start[: self.empty] = 0
        return start


@dataclass(frozen=True)
class ProGradSettings(PlacedWords):
    """words: those of the sentence in front of the class name, once it is known"""

    own_templates: ClassVar = {
        "DescribableTextures": "a texture of {}.",
        "FGVCAircraft": "a type of aircraft, a photo of a {}.",
        "Food101": "a type of food, a photo of {}.",
        "OxfordFlowers": "a type of flower, a photo of a {}.",
        "OxfordPets": "a type of pet, a photo of a {}.",
    }

    words: str | None = field(default=None, kw_only=True)
    n_ctx: int = key(16, N_CTX, "learned words (K)", fixed=True)
    ctx_init: bool = key(
        False,
        YES_NO,
        "the last words start as those of the sentence before the class name, the others as zero "
        "vectors; False: all are random vectors",
        fixed=True,
    )
    name: str = key("prograd", one_of(("prograd",)), "of the published code's loss")
    t: float = key(1.0, number(0, open_low=True), "temperature of the divergence")
    lambda_: float = key(1.0, WEIGHT, "how much of the opposing part is taken out; 1: all of it")
    gm: bool = key(False, YES_NO, UNUSED)
    alpha: float = key(0.0, number(), UNUSED)

    @property
    def context(self) -> Context:
        if self.words is None or not self.ctx_init:
            return Context(count=self.n_ctx)
        count = len(self.words.split())
        if not 1 <= count <= self.n_ctx:
            raise ValueError(
                f"{self.key('CTX_INIT')} True starts the context from the words before the class "
                f"name, and the sentence has {count} of them ({self.words!r}); allowed are 1 to "
                f"{self.key('N_CTX')}, {self.n_ctx}: set N_CTX to 16, as published, or "
                "DATASET.TEMPLATE to a sentence such as 'a photo of a {}.', or CTX_INIT to False"
            )
        return LastWords(self.words, self.n_ctx)

    @property
    def needs_template(self) -> bool:
        return True


class Outputs(NamedTuple):
    """Of a training forward."""

    logits: Tensor  # z (N, C)
    logits0: Tensor  # (N, C), of the frozen CLIP


class ProGradMethod(CoOpMethod):
    """CoOp's forward pass, and a gradient that is no loss's."""

    Settings = ProGradSettings
    settings: ProGradSettings
    w0: Tensor

    def __init__(
        self,
        settings: ProGradSettings,
        clip: FrozenCLIP,
        classnames: Sequence[str],
        template: str = "{}",
    ):
        words = settings.template_for(template).partition("{}")[0].strip()
        super().__init__(replace(settings, words=words), clip, classnames, template)

    def prepare(self, classnames: Sequence[str]) -> None:
        super().prepare(classnames)
        w0 = normalize(self.clip.encode_text(self.clip.prompts(classnames, self.template)))
        self.register_buffer("w0", w0, persistent=False)

    def forward(self, images: Tensor) -> Outputs:
        f, w = normalize(self.frozen_features(images)), self.text_features()
        logits, logits0 = (cosine_logits(f, each, self.clip.scale) for each in (w, self.w0))
        return Outputs(logits, logits0)

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy, and the divergence but for a constant: -T^2 sum q log softmax(z / T)."""
        t = self.settings.t
        kl = F.cross_entropy(outputs.logits / t, (outputs.logits0 / t).softmax(dim=-1))
        return {"ce": F.cross_entropy(outputs.logits, labels), "kl": t**2 * kl}

    def backward(self, terms: dict[str, Tensor], scale: Callable[[Tensor], Tensor]) -> Tensor:
        """Two products with the Jacobian of one graph. If `scale` multiplies both losses by a
        number, it multiplies the gradient: only the direction of b counts. Where processes
        average gradients, each of the two is averaged, before the rule."""
        context = self.learner.context
        (a,) = torch.autograd.grad(scale(terms["ce"]), context, retain_graph=True)
        (b,) = torch.autograd.grad(scale(terms["kl"]), context)
        gradient = without_conflict(a, b, self.settings.lambda_)
        context.grad = gradient if context.grad is None else context.grad + gradient
        return terms["ce"]

    def training_logits(self, outputs: Outputs) -> Tensor:
        return outputs.logits


@TRAINER_REGISTRY.register()
class ProGrad(CoOp):
    node = "PROGRAD"
    Method = ProGradMethod
    published_keys: ClassVar[dict[str, str]] = {"TRAINER.COOP.*": "*", "LOSS.*": "*"}

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if cfg.TRAIN.COMPILE:
            raise ValueError(
                "TRAIN.COMPILE is True, but a compiled step has one backward pass and ProGrad "
                "takes two gradients of each: set it to False"
            )


def without_conflict(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The paper's rule: a, less `share` of its part along b where that points against b.

    Not finite if a or b is not: a loss scaler sees it then.
    """
    u = F.normalize(b.flatten(), dim=0).view_as(b)  # zero where b is
    return a - share * (a * u).sum().clamp(max=0) * u
