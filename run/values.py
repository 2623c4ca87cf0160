"""Which values the engine's keys may have: one table, checked before any data is read.

A method's keys are in its own file. What depends on the backbone (layers, image size) or on the
dataset is checked by these. A key without a row may have any value of its type: nothing here uses
it, or a plugin knows.
"""

import re
from itertools import product
from typing import Any

from yacs.config import CfgNode

from dassl.data.samplers import AVAI_SAMPLERS
from dassl.data.transforms import AVAI_CHOICES, INTERPOLATION_MODES
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.optim.lr_scheduler import AVAI_SCHEDS, AVAI_WARMUPS
from dassl.optim.optimizer import AVAI_OPTIMS
from frozen_clip.properties import ACTIVATIONS
from training.settings import (
    SHARE,
    WEIGHT,
    Allowed,
    check_value,
    is_whole,
    number,
    one_of,
    several,
    whole,
)

PATH = Allowed("a path of a file or folder", lambda v: "\0" not in v and len(v) < 4096)
FOLDER = Allowed("the path of a folder", lambda v: v.strip() != "" and PATH.test(v))
FROM_0, RATE = number(0), WEIGHT
SIZE = whole(1, 4096)
TEXT = Allowed("a text", lambda v: isinstance(v, str))

TWO_OR_NONE = Allowed(
    "a list of two whole numbers from 1 to 256, or an empty one",
    lambda v: len(v) in (0, 2) and all(is_whole(n, 1, 256) for n in v),
)

DEVICE = Allowed(
    "one of auto, cpu, cuda, cuda:N, mps, xpu, xpu:N",
    lambda v: re.fullmatch(r"auto|cpu|(cuda|xpu)(:\d+)?|mps(:0)?", v) is not None,
    ("auto", "cpu", "cuda", "mps", "xpu"),
)

ENGINE: tuple[tuple[str, Allowed, str], ...] = (  # key, allowed, why
    ("OUTPUT_DIR", FOLDER, "the run is written there"),
    ("RESUME", PATH, "the run goes on from there"),
    ("DEVICE", DEVICE, "the run computes on it"),
    ("SEED", whole(-(10**9), 2**32 - 1), "numpy's generator takes no larger one; below 0: no seed"),
    ("MODEL.BACKBONE.ACTIVATION", one_of(("", *ACTIVATIONS)), "empty: the model says it"),
    ("MODEL.BACKBONE.HEADS", TWO_OR_NONE, "vision and text tower; empty: the model says it"),
    ("INPUT.SIZE", several(SIZE, 2), "height and width of what CLIP sees"),
    ("INPUT.INTERPOLATION", one_of(INTERPOLATION_MODES), "how pictures are scaled"),
    ("INPUT.RESIZE", one_of(("shortest", "squash")), "the shorter edge, or both to INPUT.SIZE"),
    ("INPUT.TRANSFORMS", several(one_of(AVAI_CHOICES)), "others do not exist"),
    (
        "INPUT.EXIF_ORIENTATION",
        one_of(("auto", "apply", "ignore")),
        "whether images are turned as cameras noted; auto: those of ImageFolder are",
    ),
    ("INPUT.PIXEL_MEAN", several(number(-100, 100), 3), "red, green, blue"),
    ("INPUT.PIXEL_STD", several(number(1e-3, 1e3), 3), "red, green and blue are divided by it"),
    ("INPUT.CROP_PADDING", whole(0, 4096), "pixels around the picture"),
    ("INPUT.RRCROP_SCALE", several(number(0, 1, open_low=True), 2), "shares of the area"),
    ("INPUT.CUTOUT_N", whole(0, 1000), "squares in each picture"),
    ("INPUT.CUTOUT_LEN", whole(0, 4096), "their edge in pixels"),
    ("INPUT.GN_MEAN", number(), "of the noise"),
    ("INPUT.GN_STD", FROM_0, "of the noise"),
    ("INPUT.RANDAUGMENT_N", whole(0, 100), "operations for each picture"),
    ("INPUT.RANDAUGMENT_M", whole(0, 30), "torchvision knows 31 strengths"),
    ("INPUT.COLORJITTER_{B,C,S}", number(0, 100), "share by which a colour may change"),
    ("INPUT.COLORJITTER_H", number(0, 0.5), "half of the colour circle at most"),
    ("INPUT.{RGS,GB}_P", SHARE, "a probability"),
    ("INPUT.GB_K", whole(1, 4095), "edge of the blur in pixels"),
    ("DATASET.{ROOT,PATH}", PATH, "the pictures are read from there"),
    ("DATASET.{SOURCE,TARGET}_DOMAINS", several(TEXT), "names of domains"),
    ("DATASET.NUM_SHOTS", whole(-(10**9), 10**9), "pictures per class; below 1: all"),
    ("DATALOADER.NUM_WORKERS", whole(0, 1024), "processes; 0: the run loads by itself"),
    ("DATALOADER.K_TRANSFORMS", whole(1, 100), "views of each picture"),
    ("DATALOADER.{TRAIN_X,TRAIN_U,TEST}.BATCH_SIZE", whole(1, 10**6), "pictures in a batch"),
    ("DATALOADER.{TRAIN_X,TRAIN_U}.SAMPLER", one_of(AVAI_SAMPLERS), "others do not exist"),
    ("DATALOADER.{TRAIN_X,TRAIN_U}.N_INS", whole(1, 10**6), "pictures of a class in a batch"),
    (
        "DATALOADER.TEST.SAMPLER",
        one_of(("SequentialSampler", "RandomSampler")),
        "an evaluation looks at every picture once",
    ),
    ("FEATURES.STORE", one_of(("auto", "off")), "kept, or computed each time"),
    ("FEATURES.VIEWS", whole(0, 10**4), "random views of a training image; 0: images"),
    ("FEATURES.MAX_GB", number(0, 1e6), "of all files of the store"),
    ("OPTIM.NAME", one_of(AVAI_OPTIMS), "others do not exist"),
    ("OPTIM.LR", RATE, "the step goes down the gradient"),
    ("OPTIM.WEIGHT_DECAY", RATE, "weights shrink by it"),
    ("OPTIM.MOMENTUM", RATE, "share of the last step that is kept"),
    ("OPTIM.SGD_DAMPNING", number(), "of the momentum"),
    ("OPTIM.RMSPROP_ALPHA", SHARE, "share of the mean square that is kept"),
    (
        "OPTIM.ADAM_BETA{1,2}",
        Allowed("a number from 0 and below 1", lambda v: 0 <= v < 1),
        "a share",
    ),
    ("OPTIM.BASE_LR_MULT", RATE, "of the rate of layers that are not new"),
    ("OPTIM.LR_SCHEDULER", one_of(AVAI_SCHEDS), "others do not exist"),
    ("OPTIM.STEPSIZE", several(whole(-(10**9), 10**9), least=1), "epochs"),
    ("OPTIM.ADAM_EPS", number(0, 1, open_low=True), "added to the root of the mean square"),
    ("OPTIM.LR_MIN", RATE, "a rate"),
    ("OPTIM.GAMMA", RATE, "the rate is multiplied by it"),
    ("OPTIM.MAX_EPOCH", whole(1, 10**6), "epochs of training"),
    ("OPTIM.WARMUP_TYPE", one_of(AVAI_WARMUPS), "others do not exist"),
    ("OPTIM.WARMUP_{CONS,MIN}_LR", RATE, "a rate"),
    ("TRAIN.PRINT_FREQ", whole(1, 10**9), "batches between two lines"),
    ("TRAIN.COUNT_ITER", one_of(("train_x", "train_u", "smaller_one")), "others do not exist"),
    ("TEST.SPLIT", one_of(("test", "val")), "others do not exist"),
    ("TEST.FINAL_MODEL", one_of(("last_step", "best_val")), "others do not exist"),
)


def check_values(cfg: CfgNode) -> None:
    """ValueError for the first value that is not allowed, by itself or with another one."""
    for pattern, allowed, why in (*ENGINE, _evaluators()):
        for key in keys_of(pattern):
            check_value(key, lookup(cfg, key), allowed, why)
    if cfg.TRAINER.NAME in TRAINER_REGISTRY.registered_names():
        trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
        if hasattr(trainer, "settings_of"):  # those built on ours
            trainer.settings_of(cfg)
    _check_together(cfg)


def _evaluators() -> tuple[str, Allowed, str]:
    names = EVALUATOR_REGISTRY.registered_names()  # plugins bring their own
    return "TEST.EVALUATOR", one_of(names), "others are not registered"


def _check_together(cfg: CfgNode) -> None:
    """Values that are right by themselves and wrong together."""
    optim, size = cfg.OPTIM, min(cfg.INPUT.SIZE)
    low, high = cfg.INPUT.RRCROP_SCALE
    if low > high:
        raise ValueError(f"INPUT.RRCROP_SCALE is ({low}, {high}); the smaller share comes first")
    nesterov = optim.NAME == "sgd" and optim.SGD_NESTEROV
    if nesterov and (optim.MOMENTUM == 0 or optim.SGD_DAMPNING != 0):
        raise ValueError(
            "OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM above 0 and OPTIM.SGD_DAMPNING 0, but they "
            f"are {optim.MOMENTUM} and {optim.SGD_DAMPNING}"
        )
    kernel = cfg.INPUT.GB_K
    if "gaussian_blur" in cfg.INPUT.TRANSFORMS and (kernel % 2 == 0 or kernel >= 2 * size):
        raise ValueError(
            f"INPUT.GB_K is {kernel}; gaussian_blur needs an odd number below twice the edge of "
            f"the picture, {2 * size}"
        )
    for part in ("TRAIN_X", "TRAIN_U"):
        node = cfg.DATALOADER[part]
        if node.SAMPLER == "RandomClassSampler" and node.BATCH_SIZE < node.N_INS:
            raise ValueError(
                f"DATALOADER.{part}.BATCH_SIZE is {node.BATCH_SIZE}; RandomClassSampler needs at "
                f"least DATALOADER.{part}.N_INS, {node.N_INS}"
            )


def keys_of(pattern: str) -> list[str]:
    """'A.{B,C}.D' -> ['A.B.D', 'A.C.D']."""
    parts = [part.split("}") for part in pattern.split("{")]
    choices = [[parts[0][0]]]
    for names, rest in parts[1:]:
        choices += [names.split(","), [rest]]
    return ["".join(words) for words in product(*choices)]


def lookup(cfg: CfgNode, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg
