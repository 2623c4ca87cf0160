"""Linear probe: logistic regression on the frozen CLIP's image features, without any text.

ICML 2021, arXiv 2103.00020; the few-shot protocol is CoOp's (IJCV 2022, arXiv 2109.01134). The
weight C of the data against the penalty is searched on validation images. Where the published code
stops scikit-learn early, each fit here goes on to the minimum, which does not depend on versions.

Trained: a weight for each class and feature, a bias for each class.

Unseen classes: none; an evaluation of classes without training images is refused.

    E joint space      f  image features      W, b  weight (classes, E) and bias
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from training.class_bound import ClassLearner
from training.feature_fit import FeatureFit, FeatureFitMethod, Features, validation_images
from training.method import normalize
from training.settings import YES_NO, MethodSettings, key, number, precision, whole

COARSE = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)  # C
TOLERANCES = (1e-13, 1e-15, 1e-17)  # of scikit-learn, tried in turn
REACHED = 1e-4  # how far the minimum may be, in parts of |W|; more only where C is large


@dataclass(frozen=True)
class LinearProbeSettings(MethodSettings):
    prec: str = precision("fp32")
    num_step: int = key(8, whole(0, 50), "halvings of the range of C, after the coarse grid")
    c: float = key(
        0.0,
        number(0, 1e8),
        "weight of the data, 1 / that of the penalty; 0: chosen on validation images",
    )
    val_shots: int = key(
        4, whole(1, 1_000_000), "validation images of a class that choose C, at most"
    )
    normalize: bool = key(False, YES_NO, "features of length 1", fixed=True)
    augment: bool = key(False, YES_NO, "train on a random view of each image, not a center crop")

    @property
    def template(self) -> str:
        return "{}"  # a class needs no sentence

    @property
    def per_class(self) -> bool:
        return True


class LinearClassifier(ClassLearner):
    """Everything that is trained: W (C, E) and b (C)."""

    def __init__(self, classnames: Sequence[str], width: int):
        super().__init__(classnames)
        self.weight = nn.Parameter(torch.zeros(len(classnames), width))
        self.bias = nn.Parameter(torch.zeros(len(classnames)))


class LinearProbeMethod(FeatureFitMethod):
    """`f W^T + b`. In place of text features, it has W and b in one matrix."""

    Settings: type[MethodSettings] = LinearProbeSettings
    by_class: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def build_learner(self, classes: int) -> LinearClassifier:
        return LinearClassifier(self.classnames, self.clip.embed_dim)

    def prepare(self, classnames: Sequence[str]) -> None:
        self.normalized = self.settings.normalize
        self.views = 1 if self.settings.augment else None

    def features(self, f: Tensor) -> Tensor:
        """What is classified, of image features (N, E)."""
        return normalize(f) if self.normalized else f.float()

    def text_features(self) -> Tensor:
        """W and b side by side (C, E + 1)."""
        return torch.cat([self.learner.weight, self.learner.bias[:, None]], dim=1)

    def of_features(self, f: Tensor, w: Tensor, seen: bool) -> Tensor:
        return affine(self.features(f), w)

    def describe(self, seen: bool) -> dict[str, object]:
        f = "f / norm(f)" if self.normalized else "f"
        return {"logits": f"{f} @ w[:, :-1].T + w[:, -1]"}

    def fit(self, train: Sequence[Features], val: Features | None) -> None:
        (images,) = train
        fits = Fits(self.features(images.f), images.labels)
        c = self.settings.c or self.search(fits, val)
        weight, bias = fits(c)
        with torch.no_grad():
            self.learner.weight.copy_(weight)
            self.learner.bias.copy_(bias)

    def search(self, fits: "Fits", val: Features | None) -> float:
        """C by the accuracy on validation images."""
        assert val is not None  # the trainer refuses it
        some = first_of_each(val.labels, self.settings.val_shots)
        f, labels = self.features(val.f[some]).double().cpu(), val.labels[some].cpu()

        def accuracy(c: float) -> float:
            weight, bias = fits(c)
            right = (f @ weight.mT + bias).argmax(dim=1) == labels
            print(f"C {c:g}: {100 * right.double().mean():.1f}% of {len(labels)} validation images")
            return int(right.sum()) / len(labels)

        chosen = search(accuracy, self.settings.num_step)
        print(f"C {chosen:g} is chosen")
        return chosen


@TRAINER_REGISTRY.register()
class LinearProbe(FeatureFit):
    node = "LINEARPROBE"
    Method = LinearProbeMethod
    model_name = "linear_probe"
    settings: LinearProbeSettings

    def before_train(self) -> None:
        """ValueError where nothing could choose C."""
        if not self.settings.c and not validation_images(self.dm.dataset):
            key = self.settings.key("C")
            raise ValueError(
                f"{key} is 0, so that it would be chosen on validation images, and "
                f"{self.cfg.DATASET.NAME} has none that are not its test images: set {key}, for "
                "example to 1, or take a dataset with validation images"
            )
        super().before_train()


def affine(f: Tensor, w: Tensor) -> Tensor:
    """`f W^T + b` of features (N, E) and W, b side by side (C, E + 1), in float32: (N, C)."""
    with torch.autocast(f.device.type, enabled=False):
        return f @ w[:, :-1].mT + w[:, -1]


def first_of_each(labels: Tensor, count: int) -> Tensor:
    """Where the first `count` images of each class are, in order."""
    seen: dict[int, int] = {}
    kept = []
    for place, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= count:
            kept.append(place)
    return torch.tensor(kept, device=labels.device)


def search(accuracy: Callable[[float], float], halvings: int) -> float:
    """C as CoOp's code finds it: the first of the best of a coarse grid, then of the two ends of a
    range around it the better one, time after time; the other end moves to the middle."""
    chosen = max(COARSE, key=accuracy)
    left, right = chosen / 10, chosen * 10
    for _ in range(halvings):
        middle = math.sqrt(left * right)
        if accuracy(left) < accuracy(right):
            chosen, left = right, middle
        else:
            chosen, right = left, middle
    return chosen


class Fits:
    """Fits to the same features f (N, E) and labels (N): W (C, E) and b (C), in float64.

    For a C they minimize `C sum_n CE(W f_n + b, y_n) + |W|^2 / 2`, and the mean of b is 0.
    """

    def __init__(self, f: Tensor, labels: Tensor):
        from sklearn.linear_model import LogisticRegression  # late: slow to import

        self.f, self.labels = f.double().cpu(), labels.cpu()
        # Not L-BFGS, which cannot come near the minimum for a large C.
        self._solver: Any = LogisticRegression(solver="newton-cg", max_iter=1000, warm_start=True)
        self._found: dict[float, tuple[Tensor, Tensor]] = {}

    def __call__(self, c: float) -> tuple[Tensor, Tensor]:
        if c not in self._found:
            self._found[c] = self._fit(c)
        return self._found[c]

    def _fit(self, c: float) -> tuple[Tensor, Tensor]:
        for tolerance in TOLERANCES:
            weight, bias = self._solve(c, tolerance)
            distance, length = self.gradient(c, weight, bias), float(weight.norm())
            if distance <= REACHED * length:
                return weight, bias
        print(
            f"C {c:g}: the minimum was not reached; W, of length {length:.3g}, may be off by "
            f"{distance:.0e}"
        )
        return weight, bias

    def _solve(self, c: float, tolerance: float) -> tuple[Tensor, Tensor]:
        """The solver's answer, from its last one on. Of two classes it has one vector w for
        W = (-w/2, w/2), and |w|^2 / 2 where |W|^2 is |w|^2 / 4: twice the C is the same."""
        classes = len(self.labels.unique())
        self._solver.set_params(C=c if classes > 2 else 2 * c, tol=tolerance)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whether it is there, the gradient says
            self._solver.fit(self.f.numpy(), self.labels.numpy())
        found = self._solver.coef_, self._solver.intercept_
        weight, bias = (torch.tensor(each) for each in found)
        if classes == 2:
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        return weight, bias - bias.mean()

    def gradient(self, c: float, weight: Tensor, bias: Tensor) -> float:
        """The length of the objective's gradient: W is no farther from the minimum than that,
        since the penalty's second derivative is 1."""
        p = (self.f @ weight.mT + bias).softmax(dim=1)
        p[torch.arange(len(p)), self.labels] -= 1
        of_weight, of_bias = c * p.mT @ self.f + weight, c * p.sum(dim=0)
        return math.hypot(of_weight.norm(), of_bias.norm())
