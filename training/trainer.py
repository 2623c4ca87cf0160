"""What all trainers share: a frozen CLIP, autocast, the optimiser step, files, tests.

A trainer names its config node and its learner's file, and builds a `Method`; everything
about devices, precision and checkpoints is here and nowhere else.
"""

import os
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor
from yacs.config import CfgNode

import frozen_clip
from common.safe_yaml import read_yaml
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param, set_random_seed
from frozen_clip import FrozenCLIP, Prompts
from frozen_clip.finite import is_finite
from frozen_clip.prompts import warn_of_equal
from training.adaptive_batch import LargestParts
from training.checkpoints import (
    check_settings,
    find_checkpoint,
    load_strictly,
    lookup,
    read_checkpoint,
)
from training.checks import (
    check_classes,
    check_layers,
    check_per_dataset,
    check_precision,
    check_preprocessing,
    check_task,
    check_template,
    check_tensors,
    cuda_is_used,
)
from training.method import Method
from training.precision import describe, half_of
from training.published import PublicNames
from training.templates import template_of

# What a backbone that does not say it was said to be.
FACTS = ("MODEL.BACKBONE.ACTIVATION", "MODEL.BACKBONE.HEADS")


class CLIPTrainer(TrainerX):
    """A Dassl trainer around a `Method`."""

    node: str  # the config node, TRAINER.<node>
    model_name: str = ""  # the folder of its checkpoints; empty if nothing is learned
    public_folder: str = ""  # that of the published code, where it is another
    shape_keys: tuple[str, ...] = ()  # keys of the node that a checkpoint must agree with
    needs_task = False  # whether who answers depends on TASK
    needs_layers = True  # False: image and text features are enough, of any backbone of open_clip
    public = PublicNames({})  # the learner's tensors, and where public checkpoints have them
    public_variants: tuple[PublicNames, ...] = ()  # the same of learners that lack some
    _features_of_test: list[Tensor | None] | None = None  # of the test that runs, once known

    def build_method(self, clip: FrozenCLIP, prompts: Prompts) -> Method:
        raise NotImplementedError

    @property
    def settings(self) -> CfgNode:
        return self.cfg.TRAINER[self.node]

    @property
    def classnames(self) -> list[str]:
        """The names of this run's classes, in the order of their labels."""
        return [self.lab2cname[label] for label in sorted(self.lab2cname)]

    @property
    def template(self) -> str:
        """The sentence of the prompts that `build_method` gets."""
        return template_of(self.dm.dataset, self.cfg)

    def check_cfg(self, cfg: CfgNode) -> None:
        check_precision(cfg.TRAINER[self.node].PREC, self.node, cuda=cuda_is_used(cfg))
        check_task(cfg.TASK, required=self.needs_task, trainer=cfg.TRAINER.NAME)
        check_tensors(cfg)
        check_layers(cfg.MODEL.BACKBONE.NAME, type(self))
        check_per_dataset(cfg, type(self))

    # Building

    def build_data_loader(self) -> None:
        """CLIP comes first: what does not go with it is refused before any data is read."""
        self.clip = self.load_clip()
        self.check_learner(self.clip)
        super().build_data_loader()
        check_classes(self.classnames)

    def check_learner(self, clip: FrozenCLIP) -> None:
        """ValueError where the settings of the method do not fit this CLIP."""
        if self.cfg.DATASET.TEMPLATE:
            check_template(self.cfg.DATASET.TEMPLATE, "DATASET.TEMPLATE", clip)

    def build_model(self) -> None:
        if self.cfg.SEED >= 0:  # so that the learner starts alike, whatever came before
            set_random_seed(self.cfg.SEED)
        self.method = self.method_around(self.clip)
        self.source = (self.cfg.DATASET.NAME, self.cfg.DATASET.PATH)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._scales())
        self._in_parts = LargestParts(self.device)
        if self.model_name:
            self._register_learner()

    def load_clip(self) -> FrozenCLIP:
        """The config's CLIP; ValueError if its pictures are not those of the config."""
        backbone, precision = self.cfg.MODEL.BACKBONE, self.settings.PREC
        dtype = torch.float16 if precision == "fp16" else torch.float32
        products = self.half if precision == "amp" else None
        if precision == "amp":
            print(describe(self.device))
        print(f"Loading CLIP (backbone: {backbone.NAME})")
        clip = frozen_clip.load(
            *(backbone.NAME, self.device, dtype),
            products=products,
            activation=backbone.get("ACTIVATION", ""),  # another train.py does not have it
            heads=backbone.get("HEADS", []),
        )
        check_preprocessing(self.cfg.INPUT, clip)
        return clip

    def method_around(self, clip: FrozenCLIP) -> Method:
        """The method for the classes of this run, its learner as it starts."""
        with self.autocast():
            return self.build_method(clip, self.class_prompts(clip)).to(self.device)

    def class_prompts(self, clip: FrozenCLIP) -> Prompts:
        """The prompts of this run's classes, with a warning of classes that have the same one."""
        prompts = clip.prompts(self.classnames, self.template)
        if not getattr(self.settings, "CSC", False):  # words learned for each class differ
            warn_of_equal(prompts.ids_CL, self.classnames)
        return prompts

    def _register_learner(self) -> None:
        learner = self.method.learner
        print(f"Learner: {count_num_param(learner):,} trainable parameters")
        self.optim = build_optimizer(learner, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model(self.model_name, learner, self.optim, self.sched)
        self.step = self.plain_step
        if self.cfg.TRAIN.COMPILE:
            from training.compiled import CompiledStep  # late: the compiler is slow to import

            precision = torch.float32 if self.settings.PREC == "fp32" else self.half
            self.step = CompiledStep(self.plain_step, learner, precision)

    def _scales(self) -> bool:
        return self.half == torch.float16 and self.settings.PREC != "fp32"

    @property
    def half(self) -> torch.dtype:
        """The half precision of this device: float16 on CUDA, bfloat16 elsewhere."""
        return half_of(self.device)

    def autocast(self) -> AbstractContextManager:
        """Half precision where PREC asks for it."""
        return torch.autocast(self.device.type, self.half, enabled=self.settings.PREC != "fp32")

    # Training

    def forward_backward(self, batch: dict) -> dict:
        images, labels = self.parse_batch_train(batch)
        terms, logits = self.step(images, labels)
        loss = sum(terms.values())  # the engine looks at what is returned, term by term
        self.optim.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        accuracy = compute_accuracy(logits, labels)[0]
        named = {name: term.detach() for name, term in terms.items()}
        return {"loss": loss.detach(), "acc": accuracy, **named}

    def plain_step(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The named terms of the loss, and the logits (N, C) that answer."""
        with self.autocast():
            outputs = self.method(images)
            return self.method.losses(outputs, labels), self.method.training_logits(outputs)

    def parse_batch_train(self, batch: dict) -> tuple[Tensor, Tensor]:
        return self._images_and_labels(batch)

    def parse_batch_test(self, batch: dict) -> tuple[Tensor, Tensor]:
        return self._images_and_labels(batch)

    def _images_and_labels(self, batch: dict) -> tuple[Tensor, Tensor]:
        images = batch["img"].to(self.device, non_blocking=True)
        return images, batch["label"].to(self.device, non_blocking=True)

    # Testing

    @property
    def seen(self) -> bool:
        """Whether the classes of this run are those that the learner was trained on."""
        if self.cfg.TASK == "CD":
            return (self.cfg.DATASET.NAME, self.cfg.DATASET.PATH) == self.source
        return self.cfg.DATASET.SUBSAMPLE_CLASSES != "new"

    @torch.inference_mode()
    def test(self, split: str | None = None) -> float:
        """Accuracy in percent on 'test' or 'val'; the default is `TEST.SPLIT`."""
        self._features_of_test = []
        try:
            with self.autocast():
                return super().test(split)
        finally:
            self._features_of_test = None

    def model_inference(self, images: Tensor) -> Tensor:
        """Logits (N, C) of normalized images (N, 3, H, W) on the trainer's device."""
        with self.autocast():
            w = self._text_features_once()
            return self._in_parts(lambda part: self.method.classify(part, w, self.seen), images)

    def _text_features_once(self) -> Tensor | None:
        """The text features; within a test they are computed for its first batch alone."""
        if self._features_of_test is None:
            return self.text_features()
        if not self._features_of_test:
            self._features_of_test.append(self.text_features())
        return self._features_of_test[0]

    def text_features(self) -> Tensor | None:
        """The method's text features (C, E) of this run's classes; None if they are an image's.

        Raises FloatingPointError that names the classes where they are infinite or NaN.
        """
        with self.autocast():
            w = self.method.text_features()
        if w is not None and not is_finite(w):
            bad = (~w.isfinite()).any(dim=1).tolist()
            names = [name for name, is_bad in zip(self.classnames, bad, strict=True) if is_bad]
            raise FloatingPointError(
                f"the text features of {len(names)} of {len(bad)} classes are infinite or NaN "
                f"({', '.join(names[:3])}), so there is no result. {self.remedy}"
            )
        return w

    @property
    def remedy(self) -> str:
        """What to do where a computed value is infinite or NaN."""
        if self.settings.PREC != "fp32":
            return f"Half precision may be too narrow: set {self.precision_key} to fp32"
        learned = "another epoch (--load-epoch), or train again with a lower OPTIM.LR"
        return f"PREC is fp32 already: take {learned if self.model_name else 'another --backbone'}"

    @property
    def precision_key(self) -> str:
        return f"TRAINER.{self.node}.PREC"

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
        path = find_checkpoint(Path(directory), self.model_name, epoch, best, self.public_folder)
        trained = self._trained_config(Path(directory))
        if trained:
            keys = ["MODEL.BACKBONE.NAME", *(f"TRAINER.{self.node}.{k}" for k in self.shape_keys)]
            keys += [k for k in FACTS if lookup(self.cfg, k) and lookup(trained, k)]
            check_settings(self.cfg, trained, keys, path)
        source = trained.get("DATASET")
        source = source if isinstance(source, dict) else {}
        path_there = os.path.expanduser(str(source.get("PATH", "")))  # older runs kept the ~
        self.source = (source.get("NAME", "ImageNet"), path_there)
        state = self.public.own_names(read_checkpoint(path))
        load_strictly(self.method.learner, state, path, self._keys_of_axes())
        self.checkpoint = path
        print(f"Loaded {path}")

    def _keys_of_axes(self) -> dict[str, list[str]]:
        """For each tensor of the learner the config keys that set its shape, axis by axis."""
        return {
            name: [f"TRAINER.{self.node}.{k}" if k else "MODEL.BACKBONE.NAME" for k in tensor.axes]
            for name, tensor in self.public.tensors.items()
        }

    @staticmethod
    def _trained_config(directory: Path) -> dict:
        """The config that a run was trained with; empty if it left none."""
        file = directory / "config.yaml"
        return read_yaml(file) if file.is_file() else {}
