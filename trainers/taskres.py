"""TaskRes: task residual tuning, a learned vector added to each class's zero-shot text feature.

CVPR 2023, arXiv 2211.10277. The frozen CLIP's text features stay as they are, and the task is
learned apart from them. Nothing is learned inside CLIP.

Trained: the residuals.

Unseen classes: refused, since there is a residual for each class of training alone.

    C classes      E joint space      t  base feature of a class      x  its residual
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from training.class_bound import ClassBoundMethod, ClassLearner
from training.method import cosine_logits, normalize
from training.published import State
from training.settings import WEIGHT, MethodSettings, key, one_of
from training.templates import IMAGENETS, SELECTED_TEMPLATES
from training.trainer import CLIPTrainer

MOST_APART = 0.05  # a published base from ours, in lengths of ours; half precision makes 0.01


@dataclass(frozen=True)
class TaskResSettings(MethodSettings):
    residual_scale: float = key(1.0, WEIGHT, "factor of the residuals", fixed=True)
    enhanced_base: str = key(
        "none", one_of(("none",)), "how an enhanced base was made has not been published"
    )

    @property
    def per_class(self) -> bool:
        return True


class Residuals(ClassLearner):
    """Everything TaskRes trains: the residuals x (C, E)."""

    def __init__(self, classnames: Sequence[str], embed_dim: int):
        super().__init__(classnames)
        self.residuals = nn.Parameter(torch.zeros(len(classnames), embed_dim))


class TaskResMethod(ClassBoundMethod):
    """`exp(logit_scale) * cos(f, t + scale * x)`.

    t (C, E): the mean over sentences of text features that are not normalized. It is a constant of
    CLIP, classes and sentences, so that no checkpoint of ours holds it.
    """

    Settings = TaskResSettings
    by_class = ("residuals",)
    settings: TaskResSettings
    base: Tensor

    def build_learner(self, classes: int) -> Residuals:
        return Residuals(self.classnames, self.clip.embed_dim)

    def prepare(self, classnames: Sequence[str]) -> None:
        """As in the published code, '_' in a name stays, and ImageNet has CoOp's seven sentences
        beside its own. Its variants have them, too: the residuals were learned on this base."""
        more = SELECTED_TEMPLATES if self.settings.dataset in IMAGENETS else ()
        prompts = [self.clip.prompts(classnames, t, True) for t in (*more, self.template)]
        features = [self.clip.encode_text(each).float() for each in prompts]
        self.prompts = prompts[-1]
        self.register_buffer("base", torch.stack(features).mean(dim=0), persistent=False)

    def text_features(self) -> Tensor:
        """w (C, E), normalized."""
        return normalize(self.base + self.settings.residual_scale * self.learner.residuals)

    def of_features(self, f: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(normalize(f), w, self.clip.scale)

    def of_checkpoint(self, state: State, path: Path) -> State:
        """The residuals of this method's classes.

        A published file has its base beside them, which that code takes in place of the one that it
        has just computed. They must agree but for rounding, and ours is used: it is also what tells
        whether the file, which has no names, is of these classes. ValueError if not.
        """
        own, theirs = dict(state), state.get("base")
        own.pop("base", None)
        learned = own.get("residuals")
        if theirs is not None and learned is not None and learned.shape == self.base.shape:
            self.check_base(theirs, path)  # another shape is told by what reads the residuals
        return super().of_checkpoint(own, path)

    def check_base(self, theirs: Tensor, path: Path) -> None:
        """ValueError where a published file's residuals belong to other features than ours."""
        if theirs.shape == self.base.shape:
            apart_C = (theirs.to(self.base) - self.base).norm(dim=1) / self.base.norm(dim=1)
            if (apart_C <= MOST_APART).all():
                return
            worst = int(apart_C.argmax())
            what = f"of {self.classnames[worst]!r} by {apart_C[worst]:.0%} of its length"
        else:
            what = f"in shape, {tuple(theirs.shape)} and {tuple(self.base.shape)}"
        raise ValueError(
            f"{path} has residuals of other base features than this run's: they differ {what}. "
            "Evaluate on the classes that it was trained on, in their order, with its backbone and "
            "its sentences (DATASET.TEMPLATE); an enhanced base cannot be used"
        )


@TRAINER_REGISTRY.register()
class TaskRes(CLIPTrainer):
    node = "TaskRes"
    Method = TaskResMethod
    model_name = "prompt_learner"
    needs_layers = False
    learns_classes = True
    published_keys: ClassVar[dict[str, str]] = {"TRAINER.TaskRes.*": "*"}
