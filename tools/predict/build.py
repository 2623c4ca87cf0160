"""From a run's folder to a `Classifier`: device, precision, CLIP, learner, class features."""

import contextlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.utils.devices import pick_device
from frozen_clip import FrozenCLIP
from run.values import check_values
from tools.predict.classifier import Classifier
from tools.predict.runs import Run, read_run
from tools.predict.text_cache import TextCache
from training import build
from training.checkpoints import find_checkpoint, load_learner, read_checkpoint
from training.checks import check_clip, check_config
from training.method import Method
from training.precision import Precision
from training.published import CLASSNAMES, State, published


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
        found = found._replace(template=_template(found, template))
        place = check_device(device)
        cfg = _config_of(found, template, place, precision, backbone, exif_orientation)
        computed = Precision(found.trainer.settings_of(cfg).prec, place)
        with torch.random.fork_rng(devices=[]):  # the caller's generator stays where it was
            method, w = _method(found, computed, epoch, cache)
    asked = given is None or found.trainer.learns_classes  # which has refused all others
    seen = asked and build.are_seen(cfg, (cfg.DATASET.NAME, cfg.DATASET.PATH))
    remedy = _remedy(found, computed)
    return Classifier(cfg, computed, method, w, found.classes, seen, remedy)


def _remedy(run: Run, precision: Precision) -> str:
    return precision.remedy("--precision", learns=bool(run.trainer.model_name))


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
    if run.has_own_template or template is not None:  # else as in training
        cfg.DATASET.TEMPLATE = run.template or ""
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
    check_config(cfg, run.trainer)
    cfg.freeze()
    return cfg


def _template(run: Run, given: str | None) -> str | None:
    if run.has_own_template:
        if given is not None:
            raise ValueError(
                f"--template does not apply: the sentence of {run.trainer.__name__} is part of "
                "what it learned, or of its config"
            )
        return None
    template = given if given is not None else run.template
    if template is None or template.count("{}") != 1:
        has = "its run does not say it" if template is None else f"{template!r} does not"
        raise ValueError(
            f"{run.trainer.__name__} needs a sentence with one {{}} for the class name, and {has}: "
            "give --template, for example 'a photo of a {}.'"
        )
    return template


def _method(
    run: Run, precision: Precision, epoch: int | None, cached: bool
) -> tuple[Method, Tensor | None]:
    """The method with its trained learner, and its class features (C, E) if it has any.

    Where these are kept from before, the text tower need not read all the names again.
    """
    path, state = _checkpoint(run, epoch)
    clip = build.load_clip(run.cfg, precision)
    check_clip(run.cfg, run.trainer.settings_of(run.cfg), clip)
    cache = TextCache(run, run.cfg, precision.device, clip, state)
    w = cache.read() if cached else None
    method = _untrained(run, clip, precision, few=w is not None)
    if path is not None:
        if CLASSNAMES not in state:  # by which classes are found
            _check_number(method, state, path, run)
        load_learner(method, state, path, published(run.trainer))
    method.eval()
    if w is None:
        with torch.inference_mode():
            w = build.text_features(method, run.classes, precision, _remedy(run, precision))
        if cached and w is not None:
            cache.write(w)
    return method, None if w is None else w.to(precision.device)


def _untrained(run: Run, clip: FrozenCLIP, precision: Precision, few: bool) -> Method:
    """The method for the classes; with `few`, one of them stands for all if it can.

    Warns of names that CLIP does not know or cannot tell apart.
    """
    settings, template = run.trainer.settings_of(run.cfg), run.template or ""
    cls = run.trainer.Method
    if not few or settings.per_class:
        return build.build_method(cls, settings, clip, run.classes, template, precision)
    prompts = clip.prompts(run.classes, settings.template or template)
    build.warn_of_equal_prompts(settings, prompts, run.classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build.build_method(cls, settings, clip, run.classes[:1], template, precision)


def _checkpoint(run: Run, epoch: int | None) -> tuple[Path | None, State]:
    trainer = run.trainer
    if not trainer.model_name:
        return None, {}
    best = run.cfg.TEST.FINAL_MODEL == "best_val"
    theirs = published(trainer)
    places = theirs.directory, theirs.file
    path = find_checkpoint(run.folder, trainer.model_name, epoch, best, *places)
    return path, theirs.own_names(read_checkpoint(path).state)


def _check_number(method: Method, state: State, path: Path, run: Run) -> None:
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
