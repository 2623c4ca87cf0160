"""2SFS: two stages, first the layer norms of both towers, then a classifier.

CVPR 2025, arXiv 2503.11609. The first part of the steps trains weight and bias of `ln_1` and `ln_2`
in both towers, on the cross-entropy of CLIP's logits. Then the towers stay as they are: the
classifier starts as their normalized text features, and the rest of the steps trains it alone.
Each stage has a fresh optimizer and a learning rate of its own, a cosine by step.

Trained: the norms, then the classifier. `ln_pre`, `ln_post` and `ln_final` stay CLIP's, as in
the published code.

Unseen classes: the adapted text tower answers for them. A class whose name is one of training's
is answered by its row of the classifier, on whatever list it stands.

    C classes, D width of a tower, E joint space, L trained layers of a tower
    f  feature of an image      w  text feature of a class, or its row of the classifier
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Inside, Insides
from training.class_bound import ClassLearner, decode
from training.method import Method, cosine_logits, normalize
from training.published import CLASSNAMES, State
from training.settings import SHARE, Allowed, MethodSettings, check_value, key, one_of, whole
from training.trainer import CLIPTrainer

TOWERS = ("vision", "text")
NORMS = ("ln_1", "ln_2")
START = "first layer of the {} tower, counted from 0, whose norms are trained"
LN_ALONE = Allowed("ln (the published lora and bitfit are not here)", lambda v: v == "ln")


@dataclass(frozen=True)
class TwoStageSettings(MethodSettings):
    n_iters: int = key(
        300, whole(0, 10**9), "steps of both stages for each shot; 0: OPTIM.MAX_EPOCH decides"
    )
    n_iters_frac: float = key(0.6, SHARE, "share of the steps that stage 1 has")
    peft: str = key("ln", LN_ALONE, "what stage 1 trains")
    ln_modality: str = key(
        "both", one_of(("both", *TOWERS)), "towers whose norms are trained", fixed=True
    )
    ln_vision_start: int = key(0, whole(0, 1000), START.format("vision"), fixed=True)
    ln_text_start: int = key(0, whole(0, 1000), START.format("text"), fixed=True)

    @property
    def template(self) -> str:
        return "a photo of a {}."

    @property
    def per_class(self) -> bool:
        return True

    def step_budget(self, shots: int) -> int:
        return self.n_iters * max(shots, 0)

    @property
    def starts(self) -> dict[str, int]:
        """The first trained layer, from 0, of each tower whose norms are trained."""
        starts = {"vision": self.ln_vision_start, "text": self.ln_text_start}
        return {t: first for t, first in starts.items() if self.ln_modality in ("both", t)}

    def check(self, clip: FrozenCLIP) -> None:
        layers = {"vision": clip.vision.layers, "text": clip.text.layers}
        for tower, first in self.starts.items():
            allowed = whole(0, layers[tower] - 1)
            name = self.key(f"LN_{tower.upper()}_START")
            check_value(name, first, allowed, f"layers of {clip.name}")


class Norms(nn.Module):
    """Weight and bias of `ln_1` and `ln_2` of some layers, each (L, D), as CLIP has them."""

    def __init__(self, blocks: Sequence[Any]):
        super().__init__()
        for name in NORMS:
            norms = [getattr(block, name) for block in blocks]
            parts = {part: [getattr(n, part).float() for n in norms] for part in ("weight", "bias")}
            stacks = {part: torch.stack(of_layers) for part, of_layers in parts.items()}
            self.add_module(name, nn.ParameterDict(stacks))

    def insides(self, first: int) -> Insides:
        """For the tower, where they are those of the layers from `first` on, counted from 1."""
        stacks = [getattr(self, name) for name in NORMS]
        pairs = [zip(stack["weight"], stack["bias"], strict=True) for stack in stacks]
        layers = (dict(zip(NORMS, of_layer, strict=True)) for of_layer in zip(*pairs, strict=True))
        return {layer: Inside(norms) for layer, norms in enumerate(layers, start=first)}


class NormsAndClassifier(ClassLearner):
    """Everything that is trained: the norms, and the classifier (C, E).

    A row of zeros stands for no row: so are all of them before stage 2.
    """

    def __init__(self, settings: TwoStageSettings, clip: FrozenCLIP, classnames: Sequence[str]):
        super().__init__(classnames)
        for tower, first in settings.starts.items():
            self.add_module(tower, Norms(getattr(clip, tower).blocks[first:]))
        self.classifier = nn.Parameter(torch.zeros(len(classnames), clip.embed_dim))


class TwoStageMethod(Method):
    """CLIP with other norms, `scale * cos(f, w)`."""

    Settings = TwoStageSettings
    settings: TwoStageSettings
    trains_classifier = False  # whether the next step is one of stage 2

    def build_learner(self, classes: int) -> NormsAndClassifier:
        return NormsAndClassifier(self.settings, self.clip, self.classnames)

    def insides(self, tower: str) -> Insides:
        """The trained norms of a tower; none where CLIP's are left."""
        first = self.settings.starts.get(tower)
        return {} if first is None else getattr(self.learner, tower).insides(first + 1)

    def image_features(self, images: Tensor) -> Tensor:
        """f (N, E), normalized, of the adapted tower."""
        rows = self.clip.vision(images, insides=self.insides("vision")).edited
        return normalize(rows[:, 0] @ self.clip.vision_projection)

    def tower_features(self) -> Tensor:
        """w (C, E), normalized, of the adapted text tower."""
        return normalize(self.clip.text(self.prompts, insides=self.insides("text")))

    def text_features(self) -> Tensor:
        """w (C, E), normalized: the classifier's rows, and the text tower's where it has none."""
        rows = self.learner.classifier
        known = rows.any(dim=1, keepdim=True)
        if known.all():
            return normalize(rows)
        return torch.where(known, normalize(rows), self.tower_features())

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(self.image_features(images), w, self.clip.scale)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of a training step. Only what its stage trains records a graph."""
        if not self.trains_classifier:
            return self.classify(images, self.tower_features(), seen=True)
        with torch.no_grad():
            f = self.image_features(images)
        return cosine_logits(f, normalize(self.learner.classifier), self.clip.scale)

    @torch.no_grad()
    def start_classifier(self) -> None:
        """The classifier as stage 2 begins."""
        self.learner.classifier.copy_(self.tower_features())

    def of_checkpoint(self, state: State, path: Path) -> State:
        """The norms, the rows of those classes that were trained, and zeros for the others.

        A name that several classes of training have is not known on another list.
        """
        if not {CLASSNAMES, "classifier"} <= state.keys():
            return state
        known, rows = decode(state[CLASSNAMES], path), state["classifier"]
        if rows.dim() != 2 or len(rows) != len(known):
            raise ValueError(
                f"{path} is damaged: it has {len(known)} class names, and a classifier of shape "
                f"{tuple(rows.shape)}. Get the file again, or train again"
            )
        count = Counter(known)
        place = {name: row for row, name in enumerate(known) if count[name] == 1}
        found = [place.get(name, len(known)) for name in self.classnames]
        if self.classnames != known:
            rows = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])[found]
        return {**state, "classifier": rows, CLASSNAMES: self.learner.state_dict()[CLASSNAMES]}


@TRAINER_REGISTRY.register()
class TwoStage(CLIPTrainer):
    node = "TWOSTAGE"
    Method = TwoStageMethod
    model_name = "two_stage"
    settings: TwoStageSettings
    method: Any

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        check_stages(cfg)

    @cached_property
    def stage_steps(self) -> tuple[int, int]:
        """How many steps each stage has."""
        first = int(self.settings.n_iters_frac * self.total_steps)
        return first, self.total_steps - first

    def build_schedule(self) -> Any:
        """A cosine from OPTIM.LR to OPTIM.LR_MIN over the steps of each stage."""
        from dassl.optim.lr_scheduler import EpochSchedule, cosine_per_step  # ours alone

        change = self.stage_steps[0]
        first, second = (cosine_per_step(max(n, 1), self.cfg.OPTIM) for n in self.stage_steps)

        def rate(base: float, step: int) -> float:
            return first(base, step) if step < change else second(base, step - change)

        return EpochSchedule(self.optim, rate)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """A step of the stage that is on.

        One AdamW serves both: it leaves a parameter without a gradient alone, decay included, so
        that the classifier's moments and its count of steps begin with stage 2.
        """
        done, change = self.sched.last_epoch, self.stage_steps[0]
        self.method.trains_classifier = done >= change
        if done == change:
            with self.autocast():
                self.method.start_classifier()
        return super().forward_backward(batch)


def check_stages(cfg: CfgNode) -> None:
    """ValueError for settings of the engine that do not go with two stages."""
    if cfg.OPTIM.LR_SCHEDULER != "cosine_per_step" or cfg.OPTIM.WARMUP_EPOCH > 0:
        raise ValueError(
            f"OPTIM.LR_SCHEDULER is {cfg.OPTIM.LR_SCHEDULER} and OPTIM.WARMUP_EPOCH "
            f"{cfg.OPTIM.WARMUP_EPOCH}, but each stage of TwoStage has a cosine by step and no "
            "warm-up: set them to cosine_per_step and 0"
        )
    if cfg.TRAIN.COMPILE:
        raise ValueError(
            "TRAIN.COMPILE is True, but a step of TwoStage is one of two, with gradients of other "
            "parameters: set it to False"
        )
