"""What all trainers share: a frozen CLIP, autocast, the optimizer step, files, tests.

A trainer names its config node, its `Method` and the directory of its checkpoints; everything
about devices, precision and checkpoints is here and nowhere else.
"""

import math
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from common.safe_yaml import read_yaml
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param, set_random_seed
from training import build
from training.adaptive_batch import LargestParts
from training.checkpoints import check_settings, find_checkpoint, load_learner, read_checkpoint
from training.checks import check_classes, check_clip, check_config, check_disjoint
from training.method import Method
from training.precision import Precision
from training.published import published
from training.settings import MethodSettings
from training.stored_features import FeatureDataset, evaluation_by_features, train_by_features
from training.templates import template_of


class CLIPTrainer(TrainerX):
    """A Dassl trainer around a `Method`."""

    Method: type[Method]
    node: str  # the config node, TRAINER.<node>
    alias: str = ""  # another name of the node
    model_name: str = ""  # the directory of its checkpoints; empty if nothing is learned
    needs_task = False  # whether the logits depend on TASK
    views = 1  # of an image in a training batch; more are stacked in front (views, N, 3, H, W)
    learns_classes = False  # True: it answers for the classes of training alone
    trains_on_batches = True  # False: it is fitted to all images at once, or not at all
    needs_layers = True  # False: image and text features are enough, of any backbone of open_clip
    features_were_stored = False  # whether the last test read image features from the store
    _features_of_test: list[Tensor | None] | None = None  # of the test that runs, once known

    @classmethod
    def add_config(cls, cfg: CfgNode) -> None:
        """Add the config node to TRAINER, where this class brings one."""
        if "node" in vars(cls):
            cfg.TRAINER[cls.node] = cls.Method.Settings.config_node()
        if "alias" in vars(cls):
            cfg.TRAINER[cls.alias] = cfg.TRAINER[cls.node]

    @classmethod
    def settings_of(cls, cfg: CfgNode) -> MethodSettings:
        """The method's settings in a config; ValueError for values that are not allowed."""
        return cls.Method.Settings.of(cfg, cls.node)

    @cached_property
    def settings(self) -> Any:
        return self.settings_of(self.cfg)

    @property
    def classnames(self) -> list[str]:
        """The names of this run's classes, in the order of their labels."""
        return [self.lab2cname[label] for label in sorted(self.lab2cname)]

    @property
    def template(self) -> str:
        """The dataset's template, or the method's sentence for it; the method's own template
        where that alone is used."""
        if self.settings.needs_template:
            return self.settings.template_for(template_of(self.dm.dataset, self.cfg))
        return self.settings.template

    def check_cfg(self, cfg: CfgNode) -> None:
        check_config(cfg, type(self))

    @classmethod
    def check_training(cls, cfg: CfgNode) -> None:
        """ValueError or OSError for what training needs and a test does not, without data."""
        settings, shots = cls.settings_of(cfg), cfg.DATASET.NUM_SHOTS
        if (steps := settings.step_budget(1)) and shots < 1:
            raise ValueError(
                f"{settings.key('N_ITERS')} is {steps} steps for each shot, but DATASET.NUM_SHOTS "
                f"is {shots}, all images: set it to a number of shots, or N_ITERS to 0 and "
                "OPTIM.MAX_EPOCH to the epochs that training is to take"
            )

    # Building

    def build_data_loader(self) -> None:
        """CLIP comes first: what does not go with it is refused before any data is read."""
        self.clip = build.load_clip(self.cfg, self.precision)
        check_clip(self.cfg, self.settings, self.clip)
        super().build_data_loader()
        check_classes(self.classnames)

    def build_model(self) -> None:
        if self.cfg.SEED >= 0:  # so that the learner starts alike, whatever came before
            set_random_seed(self.cfg.SEED)
        self.method = build.build_method(
            *(self.Method, self.settings, self.clip, self.classnames, self.template),
            self.precision,
        )
        self.source = (self.cfg.DATASET.NAME, self.cfg.DATASET.PATH)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision.scales_loss)
        self._in_parts = LargestParts(self.device)
        if self.model_name:
            self._register_learner()

    def _register_learner(self) -> None:
        learner = self.method.learner
        print(f"Learner: {count_num_param(learner):,} trainable parameters")
        self.optim = build_optimizer(learner, self.cfg.OPTIM)
        self._set_budget()
        self.sched = self.build_schedule()
        self.register_model(self.model_name, learner, self.optim, self.sched)
        self.step = self.plain_step
        if self.cfg.TRAIN.COMPILE:
            from training.compiled import CompiledStep  # late: the compiler is slow to import

            self.step = CompiledStep(self.plain_step, learner, self.precision.computed)

    def _set_budget(self) -> None:
        """Let a budget of steps decide how many epochs there are."""
        batches = len(self.train_loader_x)
        budget = self.settings.step_budget(self.cfg.DATASET.NUM_SHOTS)
        if (budget or self.moves_rate_per_step) and not hasattr(self, "max_steps"):
            raise ValueError(
                f"{type(self).__name__} counts steps, and the engine that is installed counts "
                "epochs alone: train with this project's own (pip install ./packages/dassl)"
            )
        if budget:
            self.max_steps = budget
            self.max_epoch = math.ceil(budget / batches)
        self.total_steps = budget or self.max_epoch * batches

    def build_schedule(self) -> Any:
        """The schedule of the learning rate, by epoch or by step."""
        if not self.moves_rate_per_step:
            return build_lr_scheduler(self.optim, self.cfg.OPTIM)
        return build_lr_scheduler(self.optim, self.cfg.OPTIM, steps=self.total_steps)

    @property
    def moves_rate_per_step(self) -> bool:
        return bool(self.cfg.OPTIM.LR_SCHEDULER == "cosine_per_step")

    @property
    def precision(self) -> Precision:
        """PREC on this run's device."""
        return Precision(self.settings.prec, self.device)

    def autocast(self) -> AbstractContextManager[None]:
        """Half precision where PREC asks for it."""
        return self.precision.autocast()

    # Training

    def before_train(self) -> None:
        self.check_training(self.cfg)
        check_disjoint(self.dm.dataset, self.cfg.DATASET.NAME)
        super().before_train()
        views = self.cfg.get("FEATURES", {}).get("VIEWS", 0)  # another train.py has none
        if views and self.start_epoch < self.max_epoch:
            train_by_features(self, views)

    def before_epoch(self) -> None:
        super().before_epoch()
        dataset = getattr(self.train_loader_x, "dataset", None)
        if isinstance(dataset, FeatureDataset):
            dataset.epoch = self.epoch

    def after_epoch(self) -> None:
        """ValueError where a plugin's own step moves the rate once an epoch, not once a step."""
        sched = getattr(self, "sched", None)  # methods that are fitted have none
        if sched is not None and self.moves_rate_per_step:
            done = min((self.epoch + 1) * len(self.train_loader_x), self.total_steps)
            if sched.last_epoch != done:
                raise ValueError(
                    f"OPTIM.LR_SCHEDULER is cosine_per_step, but {type(self).__name__} has moved "
                    f"its rate {sched.last_epoch} times in {done} steps: set it to cosine, or call "
                    "update_lr after each step"
                )
        super().after_epoch()

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        images, labels = self.parse_batch_train(batch)
        terms, logits = self.step(images, labels)
        self.optim.zero_grad()
        loss = self.method.backward(terms, self.scaler.scale)
        self.scaler.step(self.optim)
        self.scaler.update()
        if self.moves_rate_per_step or self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        accuracy = compute_accuracy(logits, labels)[0]
        # the engine looks at what is returned, term by term
        named = {name: term.detach() for name, term in terms.items()}
        return {"loss": loss.detach(), "acc": accuracy, **named}

    def plain_step(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The named terms of the loss, and the logits (N, C) that answer."""
        with self.autocast():
            outputs = self.method(images)
            return self.method.losses(outputs, labels), self.method.training_logits(outputs)

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if self.views > 1:
            batch = {**batch, "img": torch.stack(batch["img"])}
        return self._images_and_labels(batch)

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return self._images_and_labels(batch)

    def _images_and_labels(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        images = batch["img"].to(self.device, non_blocking=True)
        return images, batch["label"].to(self.device, non_blocking=True)

    # Testing

    @property
    def seen(self) -> bool:
        """Whether the classes of this run are those that the learner was trained on."""
        return build.are_seen(self.cfg, self.source)

    @torch.inference_mode()
    def test(self, split: str | None = None) -> float:
        """Accuracy in percent on 'test' or 'val'; the default is `TEST.SPLIT`."""
        self._features_of_test, self.features_were_stored = [], False
        try:
            with self.autocast(), self._what_is_tested(split or self.cfg.TEST.SPLIT):
                return super().test(split)
        finally:
            self._features_of_test = None

    def _what_is_tested(self, split: str) -> AbstractContextManager[None]:
        """Features in place of images where they are enough, and no plugin does it otherwise."""
        if self.has_plain("parse_batch_test", "infer", "model_inference", "frozen_features"):
            return evaluation_by_features(self, split)
        return nullcontext()

    @classmethod
    def has_plain(cls, *methods: str) -> bool:
        """Whether these are as written here, and no plugin does it otherwise."""
        return all(getattr(cls, name) is getattr(CLIPTrainer, name) for name in methods)

    def infer(self, images: Tensor) -> Tensor:
        """`model_inference` of a batch of a test, in parts that fit the memory."""
        return self._in_parts(self.model_inference, images)

    def frozen_features(self, images: Tensor) -> Tensor:
        """The frozen CLIP's image features (N, E), float32, not normalized, in parts that fit."""
        with self.autocast():
            return self._in_parts(self.clip.encode_image, images).float()

    def model_inference(self, images: Tensor) -> Tensor:
        """Logits (N, C) of normalized images (N, 3, H, W), or of the frozen CLIP's features of
        images (N, E), on the trainer's device."""
        with self.autocast():
            return self.method.classify(images, self._text_features_once(), self.seen)

    def _text_features_once(self) -> Tensor | None:
        """The text features; within a test they are computed for its first batch alone."""
        if self._features_of_test is None:
            return self.text_features()
        if not self._features_of_test:
            self._features_of_test.append(self.text_features())
        return self._features_of_test[0]

    def text_features(self) -> Tensor | None:
        """The method's text features (C, E) of this run's classes; None if they are an image's."""
        return build.text_features(self.method, self.classnames, self.precision, self.remedy)

    @property
    def remedy(self) -> str:
        """What to do where a computed value is infinite or NaN."""
        return self.precision.remedy(self.settings.key("PREC"), learns=bool(self.model_name))

    # Files

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the learner of a run: of `epoch`, or of its newest finished epoch, or of the
        epoch that was best on the validation images if `TEST.FINAL_MODEL` is 'best_val'.

        Raises FileNotFoundError when there is none, and ValueError when it was trained with
        other shapes, saying which keys disagree.
        """
        if not self.model_name:
            return
        best = self.cfg.TEST.FINAL_MODEL == "best_val"
        theirs = published(type(self))
        places = theirs.directory, theirs.file
        path = find_checkpoint(Path(directory), self.model_name, epoch, best, *places)
        state, metadata = read_checkpoint(path)
        trained = self._trained_config(Path(directory))
        for said in filter(None, (trained, theirs.trained_with(metadata, self.node))):
            check_settings(self.cfg, said, self.settings, path)
        source = trained.get("DATASET")
        source = source if isinstance(source, dict) else {}
        path_there = os.path.expanduser(str(source.get("PATH", "")))  # older runs kept the ~
        self.source = (source.get("NAME", "ImageNet"), path_there)
        starts = {"TRAINER": {self.node: theirs.starts_in(state)}}
        check_settings(self.cfg, starts, self.settings, path)
        load_learner(self.method, theirs.own_names(state), path, theirs)
        self.checkpoint = path
        print(f"Loaded {path}")

    @staticmethod
    def _trained_config(directory: Path) -> dict[str, Any]:
        """The config that a run was trained with; empty if it left none."""
        file = directory / "config.yaml"
        return read_yaml(file) if file.is_file() else {}


def add_config(cfg: CfgNode, module: ModuleType) -> None:
    """Add the config nodes of a module's trainers, and what its own `add_config` adds."""
    for value in list(vars(module).values()):
        is_trainer = isinstance(value, type) and issubclass(value, CLIPTrainer)
        if is_trainer and value.__module__ == module.__name__:
            value.add_config(cfg)
    if hasattr(module, "add_config"):
        module.add_config(cfg)
