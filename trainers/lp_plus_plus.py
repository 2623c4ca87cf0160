"""LP++: a linear probe that adds the text features, each class by its own weight.

CVPR 2024, arXiv 2404.02285. The features of one random view of each training image are all in every
step. Where training starts and how long its steps are follows from them, so nothing is tuned.

Trained: a weight for each class and feature, a bias and a weight of the text for each class.

Unseen classes: none; an evaluation of classes without training images is refused.

    N training images, C classes, E joint space
    f, w  normalized features of an image, of a class    W, b  weight (C, E) and bias (C)
    alpha weight of the text (C)                         t  cosines of f and w (N, C)
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from dassl.engine import TRAINER_REGISTRY
from trainers.linear_probe import LinearClassifier, LinearProbeMethod, affine
from training.ensembles import EnsembleSettings, mean_features, own_ensemble
from training.feature_fit import FeatureFit, Features
from training.settings import key, precision, whole

FIRST_ALPHA = 250.0  # times the mean cosine of an image and its class


@dataclass(frozen=True)
class LPPlusPlusSettings(EnsembleSettings):
    prec: str = precision("fp32")
    epochs: int = key(300, whole(1, 1_000_000), "epochs, each of one step on all training images")
    alpha_every: int = key(10, whole(1, 1_000_000), "epochs from one step of alpha to the next")


class BlendedClassifier(LinearClassifier):
    """Everything that is trained: W (C, E), b and alpha (C). As in the published code b starts as
    `nn.Linear` draws it."""

    def __init__(self, classnames: Sequence[str], width: int):
        super().__init__(classnames, width)
        self.bias = nn.Parameter(torch.empty_like(self.bias).uniform_(-(width**-0.5), width**-0.5))
        self.alpha = nn.Parameter(torch.zeros_like(self.bias))


class LPPlusPlusMethod(LinearProbeMethod):
    """`f W^T + b + alpha t`, that is a linear probe with the weight `W + alpha w`."""

    Settings = LPPlusPlusSettings
    by_class = ("weight", "bias", "alpha")
    views = 1
    normalized = True
    w: Tensor

    def prepare(self, classnames: Sequence[str]) -> None:
        templates = own_ensemble(self.settings.dataset) or (self.template,)
        w = mean_features(self.clip, classnames, templates)
        self.register_buffer("w", w, persistent=False)

    def build_learner(self, classes: int) -> BlendedClassifier:
        return BlendedClassifier(self.classnames, self.clip.embed_dim)

    def text_features(self) -> Tensor:
        """`W + alpha w` and b side by side (C, E + 1)."""
        weight, bias, alpha = self.learner.weight, self.learner.bias, self.learner.alpha
        return torch.cat([weight + alpha[:, None] * self.w, bias[:, None]], dim=1)

    def fit(self, train: Sequence[Features], val: Features | None) -> None:
        """Train for EPOCHS; the latest of the states that are best on the validation images stays,
        without such images the last."""
        (images,) = train
        f, labels = self.features(images.f), images.labels
        self.start(f, labels)
        best = kept = -1
        for epoch in self.epochs(f, labels):
            right = self.right_answers(val) if val else 0
            if right >= best:
                best, kept, state = right, epoch, deepcopy(self.learner.state_dict())
        self.learner.load_state_dict(state)
        if val:
            print(f"Best after epoch {kept}: {best} of {len(val.labels)} validation images")
        else:
            print(f"There are no validation images: the last state is kept, of epoch {kept}")

    @torch.no_grad()
    def start(self, f: Tensor, labels: Tensor) -> None:
        """W is the sum of a class's features, alpha 250 times the mean cosine to the class."""
        self.learner.weight.zero_().index_add_(0, labels, f)
        count_C = labels.bincount(minlength=len(self.w))
        t_N = (f * self.w[labels]).sum(dim=1)
        mean_C = t_N.new_zeros(len(self.w)).index_add_(0, labels, t_N) / count_C
        self.learner.alpha.fill_(FIRST_ALPHA * mean_C.mean())

    def step_sizes(self, f: Tensor) -> tuple[float, float]:
        """Learning rates of W and b, and of alpha, from bounds of the loss's curvature."""
        largest = torch.linalg.eigvalsh(f.mT @ f)[-1]
        t_NC = f @ self.w.mT
        return float(4 * len(f) / largest), float(len(f) / (4 * t_NC.square().sum(dim=0).max()))

    def epochs(self, f: Tensor, labels: Tensor) -> Iterator[int]:
        """Train on; yields after each epoch its number, from 1.

        As in the published code the gradient of alpha is never cleared: alpha moves along the sum
        of all gradients since the first epoch.
        """
        learner, every = self.learner, self.settings.alpha_every
        rate, rate_of_alpha = self.step_sizes(f)
        optimizer = SGD([learner.weight, learner.bias], lr=rate, momentum=0.9)
        learner.zero_grad()
        for epoch in range(1, self.settings.epochs + 1):
            optimizer.zero_grad()
            F.cross_entropy(affine(f, self.text_features()), labels).backward()
            optimizer.step()
            if epoch % every == 0:
                learner.alpha.data -= rate_of_alpha * learner.alpha.grad
            yield epoch
        learner.zero_grad()

    @torch.no_grad()
    def right_answers(self, val: Features) -> int:
        logits = affine(self.features(val.f), self.text_features())
        return int((logits.argmax(dim=1) == val.labels).sum())


@TRAINER_REGISTRY.register()
class LPPlusPlus(FeatureFit):
    node = "LPPLUSPLUS"
    Method = LPPlusPlusMethod
    model_name = "lp_plus_plus"
