"""From a run's folder to a `Classifier`: device, precision, CLIP, learner, class features."""

import contextlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.utils.devices import pick_device
from frozen_clip import FrozenCLIP
from run.values import check_values
from tools.predict.classifier import Classifier
from tools.predict.runs import Run, read_run
from tools.predict.text_cache import TextCache
from training.checkpoints import find_checkpoint, load_strictly, read_checkpoint
from training.trainer import CLIPTrainer, Method


class WithoutData:
    """Mixed into a trainer's class: it gets no data set, and builds no method by itself."""

    place: torch.device  # where to build, also where the trainer would choose another
    precision_key = "--precision"

    def build_data_loader(self) -> None:
        self.device = self.place
        self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
        self.dm = SimpleNamespace(dataset=SimpleNamespace())  # whose sentence is in the config
        self.lab2cname: dict[int, str] = {}

    def build_model(self) -> None:
        self.source = (self.cfg.DATASET.NAME, self.cfg.DATASET.PATH)


def build_classifier(
    run: str | PathLike[str],
    classes: Sequence[str] | None,
    template: str | None,
    epoch: int | None,
    cache: bool,
    device: str | None,
    precision: str | None,
    backbone: str | None,
    exif_orientation: str | None,
    root: str | None,
    plugins: Iterable[str],
    plugin_paths: Iterable[str],
) -> Classifier:
    """See `tools.predict.load`."""
    given = None if classes is None else check_classes(classes)
    with contextlib.redirect_stdout(io.StringIO()):  # what a training run says does not matter
        found = read_run(Path(run), root, given, plugins, plugin_paths)
        place = check_device(device)
        cfg = _config_of(found, template, place, precision, backbone, exif_orientation)
        bases = (WithoutData, found.trainer)
        trainer = type(found.trainer.__name__, bases, {"place": place})(cfg)
        seen = given is None and trainer.seen
        with torch.random.fork_rng(devices=[]):  # the caller's generator stays where it was
            method, w = _method(trainer, found, epoch, cache)
    return Classifier(trainer, method, w, found.classes, seen)


def _config_of(
    run: Run,
    template: str | None,
    device: torch.device,
    precision: str | None,
    backbone: str | None,
    exif_orientation: str | None,
) -> CfgNode:
    cfg = run.cfg
    cfg.USE_CUDA, cfg.DEVICE = device.type == "cuda", str(device)
    cfg.VERBOSE = False
    cfg.TEST.EVALUATOR, cfg.TEST.PER_CLASS_RESULT = "Classification", False
    cfg.DATASET.TEMPLATE = _sentence(run, template)
    if backbone is not None:
        cfg.MODEL.BACKBONE.NAME = backbone
    if exif_orientation not in (None, "apply", "ignore"):
        raise ValueError(f"--exif-orientation {exif_orientation!r}: allowed are apply and ignore")
    cfg.INPUT.EXIF_ORIENTATION = exif_orientation or cfg.INPUT.EXIF_ORIENTATION
    node = cfg.TRAINER[run.trainer.node]
    if precision is not None:
        node.PREC = precision
    elif device.type == "mps" or (node.PREC == "fp16" and device.type != "cuda"):
        node.PREC = "fp32"
    check_values(cfg)
    cfg.freeze()
    return cfg


def _sentence(run: Run, given: str | None) -> str:
    if run.trainer.template is not CLIPTrainer.template:
        if given is not None:
            raise ValueError(
                f"--template does not apply: the sentence of {run.trainer.__name__} is part of "
                "what it learned, or of its config"
            )
        return ""
    sentence = given if given is not None else run.template
    if sentence is None or sentence.count("{}") != 1:
        has = "its run does not say it" if sentence is None else f"{sentence!r} does not"
        raise ValueError(
            f"{run.trainer.__name__} needs a sentence with one {{}} for the class name, and {has}: "
            "give --template, for example 'a photo of a {}.'"
        )
    return sentence


def _method(
    trainer: CLIPTrainer, run: Run, epoch: int | None, cached: bool
) -> tuple[Method, Tensor | None]:
    """The method with its trained learner, and its class features (C, E) if it has any.

    Where these are kept from before, the text tower need not read all the names again.
    """
    path, state = _checkpoint(trainer, run.folder, epoch)
    clip = trainer.load_clip()
    trainer.check_learner(clip)
    cache = TextCache(run, trainer.cfg, trainer.device, clip, state)
    w = cache.read() if cached else None
    one_each = getattr(trainer.settings, "CSC", False)  # of each class something was learned
    method = _untrained(trainer, clip, run.classes, few=w is not None and not one_each)
    if path is not None:
        _check_number(method, state, path, run)
        load_strictly(method.learner, state, path, trainer._keys_of_axes())
    method.eval()
    if w is None:
        trainer.method = method
        with torch.inference_mode():
            w = trainer.text_features()
        if cached and w is not None:
            cache.write(w)
    return method, None if w is None else w.to(trainer.device)


def _untrained(trainer: CLIPTrainer, clip: FrozenCLIP, classes: list[str], few: bool) -> Method:
    """The method for the classes; with `few`, one of them stands for all."""
    trainer.lab2cname = dict(enumerate(classes))
    if not few:
        return trainer.method_around(clip)
    trainer.class_prompts(clip)  # warns of names that the CLIP does not know, or cannot tell apart
    trainer.lab2cname = {0: classes[0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trainer.method_around(clip)


def _checkpoint(
    trainer: CLIPTrainer, folder: Path, epoch: int | None
) -> tuple[Path | None, dict[str, Any]]:
    if not trainer.model_name:
        return None, {}
    best = trainer.cfg.TEST.FINAL_MODEL == "best_val"
    path = find_checkpoint(folder, trainer.model_name, epoch, best, trainer.public_folder)
    return path, trainer.public.own_names(read_checkpoint(path))


def _check_number(method: Method, state: dict[str, Tensor], path: Path, run: Run) -> None:
    """ValueError where something was learned for each class, and there are other classes now."""
    for name, tensor in method.learner.state_dict().items():
        learned = state.get(name)
        if learned is None or learned.shape == tensor.shape or learned.dim() != tensor.dim():
            continue
        if len(tensor) == len(run.classes) and learned.shape[1:] == tensor.shape[1:]:
            raise ValueError(
                f"{path} holds something learned for each of {len(learned)} classes, so it cannot "
                f"answer for {len(run.classes)} others: leave out --classes"
            )


def check_classes(classes: Sequence[str]) -> list[str]:
    """The names without spaces around them; ValueError for fewer than two, empty or equal ones."""
    if isinstance(classes, str):
        raise ValueError(f"classes is a text, {classes!r}: give a list of names")
    names = [name.strip() for name in classes]
    if not all(names) or not names:
        raise ValueError("the class names must not be empty: give them as 'cat,dog' or one a line")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"class names stand twice: {', '.join(twice[:5])}")
    if len(names) == 1:
        raise ValueError(f"{names[0]!r} would be 100% of every image: give at least two classes")
    return names


def check_device(name: str | None) -> torch.device:
    """The device of a name, or the default; ValueError if it is not there."""
    return pick_device(name or "auto", key="--device")
