"""Tip-Adapter: a cache of the training images' features, whose labels vote beside the text.

ECCV 2022, arXiv 2207.09519. The keys of the cache are features of the training images, its values
their labels. An image is compared with all keys, and the labels of those that are near are added to
the logits of CLIP. What weighs them is found on the validation images.

- `TipAdapter` fits the cache without a gradient.
- `TipAdapterF` starts from this cache and trains the keys.

Trained: nothing by `TipAdapter`, the keys by `TipAdapterF`. Both choose alpha and beta on the
validation images; without any, the initial values stay. The published code chooses the epoch of
TipAdapterF, and on ImageNet alpha and beta too, on test images: here the last epoch counts, and
nothing is chosen on test images.

Unseen classes: none, it answers for the classes of training alone.

    S training images, C classes, E joint space    f  feature of an image    w  text features
    alpha  weight of the cache    beta  how sharply nearness counts
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP
from training.checkpoints import load_learner, read_tensor
from training.class_bound import ClassLearner, decode
from training.ensembles import EnsembleSettings, mean_features, own_ensemble
from training.feature_fit import (
    FeatureFit,
    FeatureFitMethod,
    Features,
    image_features,
    validation_images,
)
from training.method import cosine_logits, normalize
from training.published import CLASSNAMES, State, published
from training.settings import YES_NO, key, number, several, whole
from training.trainer import CLIPTrainer

SCALE = 100.0  # of cosines, whatever CLIP's own
LEAST = 0.1  # where the grid of the search begins
AT_ONCE = 2**24  # numbers in a table of the search
OF_BETA_AND_ALPHA = "of beta, then of alpha: the search's"


@dataclass(frozen=True)
class TipAdapterSettings(EnsembleSettings):
    augment_epoch: int = key(
        10, whole(1, 1000), "random views of a training image: its key is their mean"
    )
    init_alpha: float = key(1.17, number(0, 1e4), "alpha without a search, and in training")
    init_beta: float = key(1.0, number(0, 1e4), "beta without a search, and in training")
    search_hp: bool = key(True, YES_NO, "choose beta and alpha on the validation images")
    search_scale: tuple[float, ...] = key(
        (7.0, 3.0), several(number(LEAST, 1e4), 2), f"{OF_BETA_AND_ALPHA} end, which it leaves out"
    )
    search_step: tuple[int, ...] = key(
        (200, 20), several(whole(1, 1000), 2), f"{OF_BETA_AND_ALPHA} number of values"
    )

    @property
    def grid(self) -> tuple[list[float], list[float]]:
        """The values of beta and of alpha that are tried."""
        beta, alpha = (
            [LEAST + i * (end - LEAST) / count for i in range(count)]
            for end, count in zip(self.search_scale, self.search_step, strict=True)
        )
        return beta, alpha


class Cache(ClassLearner):
    """The keys (S, E), their labels (S), alpha and beta.

    A label of -1 is that of a key which is not there yet.
    """

    keys: nn.Parameter
    labels: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, settings: TipAdapterSettings, clip: FrozenCLIP, classnames: Sequence[str]):
        super().__init__(classnames)
        self.keys = nn.Parameter(torch.zeros(0, clip.embed_dim))
        self.register_buffer("labels", torch.full((0,), -1))
        self.register_buffer("alpha", torch.tensor(float(settings.init_alpha)))
        self.register_buffer("beta", torch.tensor(float(settings.init_beta)))

    def resize(self, size: int) -> None:
        """Have room for `size` keys; none is there if that is another number."""
        if size != len(self.labels):
            self.keys.data = self.keys.new_zeros(size, self.keys.shape[1])
            self.labels = self.labels.new_full((size,), -1)

    def votes(self, near_NS: Tensor, classes: int) -> Tensor:
        """Per class the sum over its keys, (N, classes)."""
        known = torch.arange(classes, device=self.labels.device)
        return near_NS @ (self.labels[:, None] == known).to(near_NS.dtype)


class TipAdapterMethod(FeatureFitMethod):
    """`100 f w^T + alpha exp(-beta (1 - f keys^T)) V`, equation 6 of the paper; V is one-hot."""

    Settings, Learner = TipAdapterSettings, Cache
    trains_keys = False
    settings: TipAdapterSettings
    learner: Cache
    w: Tensor

    def build_learner(self, classes: int) -> Cache:
        return Cache(self.settings, self.clip, self.classnames).requires_grad_(self.trains_keys)

    def prepare(self, classnames: Sequence[str]) -> None:
        self.views = self.settings.augment_epoch
        templates = own_ensemble(self.settings.dataset) or (self.template,)
        w = mean_features(self.clip, classnames, templates)
        self.register_buffer("w", w, persistent=False)

    def text_features(self) -> Tensor:
        """w (C, E), normalized: of the mean of normalized features."""
        return self.w

    def of_features(self, f: Tensor, w: Tensor, seen: bool) -> Tensor:
        return self.logits(f, w, self.learner.alpha, self.learner.beta)

    def logits(self, f: Tensor, w: Tensor, alpha: Tensor | float, beta: Tensor | float) -> Tensor:
        f = normalize(f)
        with torch.autocast(f.device.type, enabled=False):
            near_NS = (beta * (f @ self.learner.keys.mT - 1)).exp()
            return cosine_logits(f, w, SCALE) + alpha * self.learner.votes(near_NS, w.shape[0])

    def describe(self, seen: bool) -> dict[str, object]:
        alpha, beta = float(self.learner.alpha), float(self.learner.beta)
        formula = "scale * (f @ w.T) + alpha * exp(-beta * (1 - f @ keys.T)) @ one_hot(labels)"
        return {"scale": SCALE, "alpha": alpha, "beta": beta, "logits": formula}

    # Fitting

    def fit(self, train: Sequence[Features], val: Features | None) -> None:
        self.remember(train)
        self.search(val)

    @torch.no_grad()
    def remember(self, train: Sequence[Features]) -> None:
        """Make the cache of features (S, E) of each view: keys are means, then normalized."""
        self.learner.resize(len(train[0].labels))
        mean_SE = reduce(torch.add, (view.f for view in train)) / len(train)
        self.learner.keys.copy_(normalize(mean_SE))
        self.learner.labels.copy_(train[0].labels)

    def search(self, val: Features | None) -> None:
        """Set beta and alpha to the first pair that most validation images are right with.

        (0, 0) if none is right with any; the initial values without validation images.
        """
        if not self.settings.search_hp:
            return
        if val is None:
            first = f"beta {self.settings.init_beta:g} and alpha {self.settings.init_alpha:g}"
            print(f"There are no validation images to search beta and alpha on: {first} stay")
            return
        betas, alphas = self.settings.grid
        right = self.right_answers(val, betas, alphas).flatten().tolist()
        best = right.index(max(right))
        beta, alpha = betas[best // len(alphas)], alphas[best % len(alphas)]
        if right[best] == 0:
            beta, alpha = 0.0, 0.0
        self.learner.beta.fill_(beta)
        self.learner.alpha.fill_(alpha)
        found = f"{right[best]} of {len(val.labels)} are right with beta {beta:g}, alpha {alpha:g}"
        print(f"Search on the validation images: {found}")

    @torch.no_grad()
    def right_answers(
        self, val: Features, betas: Sequence[float], alphas: Sequence[float]
    ) -> Tensor:
        """How many images are right with each pair, (betas, alphas).

        Of a part of the images nearness is computed once, and its sum per class once a beta.
        """
        keys, labels = self.learner.keys, self.learner.labels
        right = torch.zeros(len(betas), len(alphas), dtype=torch.long, device=keys.device)
        part = max(AT_ONCE // max(len(keys), len(self.w)), 1)
        for f, answer in zip(normalize(val.f).split(part), val.labels.split(part), strict=True):
            text_NC, apart_SN = cosine_logits(f, self.w, SCALE), keys @ f.mT - 1
            for row, beta in zip(right, betas, strict=True):
                near_SN = apart_SN.mul(beta).exp_()
                votes_CN = torch.zeros_like(text_NC.mT).index_add_(0, labels, near_SN)
                votes_NC = votes_CN.mT.contiguous()
                for place, alpha in enumerate(alphas):
                    chosen = text_NC.add(votes_NC, alpha=alpha).argmax(dim=1)
                    row[place] += (chosen == answer).sum()
        return right

    # Checkpoints

    def of_checkpoint(self, state: State, path: Path) -> State:
        """The tensors with the keys of this method's classes. The learner gets room for them.

        ValueError for labels that are no classes' of the checkpoint.
        """
        keys, labels = state.get("keys"), state.get("labels")
        if keys is None or labels is None or labels.dim() != 1:
            return state  # which does not fit, and is refused
        if keys.shape != (len(labels), self.clip.embed_dim):
            return state
        known = decode(state[CLASSNAMES], path) if CLASSNAMES in state else self.classnames
        if ((labels < 0) | (labels >= len(known))).any():
            raise ValueError(f"{path} is damaged: it has labels of more classes than names")
        state = super().of_checkpoint(state, path)
        self.learner.resize(len(state["labels"]))
        return state

    def rows_of(self, state: State, rows: Tensor) -> State:
        """The keys of these classes alone, and their labels as these are numbered here."""
        place, label = (state["labels"][:, None] == rows).nonzero(as_tuple=True)
        return {**state, "keys": state["keys"][place], "labels": label}


class TipAdapterFMethod(TipAdapterMethod):
    """The same with keys that are trained, at the alpha and beta of the settings."""

    trains_keys = True

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of a training step, whose alpha and beta are those of the settings."""
        f = self.frozen_features(images)
        return self.logits(f, self.w, self.settings.init_alpha, self.settings.init_beta)


class CacheTrainer(CLIPTrainer):
    """What both have: a learner with a key for each training image."""

    method: Any
    model_name = "cache"
    needs_layers = False
    learns_classes = True
    keys_file: str  # of the published code, before the number of shots

    def _register_learner(self) -> None:
        self.method.learner.resize(len(self.dm.dataset.train_x))
        super()._register_learner()

    @cached_property
    def val_features(self) -> Features | None:
        val = validation_images(self.dm.dataset)
        return image_features(self, val) if val else None

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Also from files of the published code, for whose keys beta and alpha are searched."""
        names = (
            f"{name}_{self.cfg.DATASET.NUM_SHOTS}shots.pt" for name in (self.keys_file, "values")
        )
        keys_file, values_file = (Path(directory) / name for name in names)
        if not values_file.is_file():
            super().load_model(directory, epoch)
            return
        keys, values = read_tensor(keys_file), read_tensor(values_file)
        if keys.dim() != 2 or values.dim() != 2 or values.shape[1] != len(self.classnames):
            raise ValueError(
                f"{keys_file} and {values_file.name} have shapes {tuple(keys.shape)} and "
                f"{tuple(values.shape)}, and this run has {len(self.classnames)} classes: take the "
                "files of this dataset, and DATASET.SUBSAMPLE_CLASSES all"
            )
        keys = keys.mT if self.keys_file == "keys" else keys
        state = {**self.method.learner.state_dict(), "keys": keys, "labels": values.argmax(dim=1)}
        del state[CLASSNAMES]  # they are not said
        load_learner(self.method, state, keys_file, published(type(self)))
        self.checkpoint = keys_file
        print(f"Loaded {keys_file}")
        self.method.search(self.val_features)


@TRAINER_REGISTRY.register()
class TipAdapter(CacheTrainer, FeatureFit):
    """The cache as it is."""

    node = "TIPADAPTER"
    Method = TipAdapterMethod
    keys_file = "keys"


@TRAINER_REGISTRY.register()
class TipAdapterF(CacheTrainer):
    """The keys are trained, by cross-entropy."""

    node = "TIPADAPTER"
    Method = TipAdapterFMethod
    keys_file = "best_F"

    def before_train(self) -> None:
        """Make the cache, unless the run that is resumed has it."""
        super().before_train()
        if (self.method.learner.labels < 0).any():
            train = self.dm.dataset.train_x
            print(f"Cache of {len(train)} training images, {self.method.views} views of each")
            views = range(self.method.views)
            self.method.remember([image_features(self, train, view) for view in views])

    def after_epoch(self) -> None:
        """Search before a checkpoint, each of which may be tested."""
        done, frequency = self.epoch + 1, self.cfg.TRAIN.CHECKPOINT_FREQ
        is_kept = done == self.max_epoch or (frequency > 0 and done % frequency == 0)
        if is_kept or self.cfg.TEST.FINAL_MODEL == "best_val":
            self.method.search(self.val_features)
        super().after_epoch()
