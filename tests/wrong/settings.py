"""Names, types, ranges, and what does not go with the backbone."""

from pathlib import Path

import torch

from frozen_clip import described
from tests.wrong import Wrong, file, value
from tests.wrong.backbones import BACKBONES


def resnet(folder: Path) -> None:
    from clip.model import CLIP

    clip = CLIP(32, 32, (1, 1, 1, 1), 16, None, 77, 49408, 64, 1, 2)
    torch.save(described(clip), folder / "rn.pt")


SETTINGS = (
    # names
    Wrong("trainer", ("TRAINER.NAME", "MMLR"), (r"'MMLR'", r"do you mean 'MMRL'")),
    Wrong("no trainer", ("TRAINER.NAME", ""), (r"trainer \(--trainer\) ''", "MaPLe")),
    Wrong("data set", ("DATASET.NAME", "Caltech"), (r"'Caltech'", "do you mean 'Caltech101'")),
    Wrong("key", ("TRAINER.MMRL.REGWEIGHT", "1"), ("did you mean TRAINER.MMRL.REG_WEIGHT",)),
    Wrong(
        "key of nobody",
        ("XYZ", "1"),
        ("unknown config key 'XYZ' in the command line", "see the keys"),
    ),
    Wrong("odd", ("OPTIM.LR",), ("KEY VALUE", "'OPTIM.LR' stands alone", "give")),
    Wrong("unknown flag", ("--trainr", "MMRL"), ("unknown flag '--trainr'", "--help")),
    Wrong(
        "flag without value",
        (),
        ("expected one argument", "--help"),
        flags=("--seed", "--no-train"),
    ),
    Wrong("seed", (), ("--seed: invalid int value: 'one'", "--help"), flags=("--seed", "one")),
    value("OPTIM.LR_SCHEDULER", "cosin", "do you mean 'cosine'"),
    value("OPTIM.NAME", "adamv", "adamw", "do you mean 'adam"),
    value("DATALOADER.TRAIN_X.SAMPLER", "Random", "do you mean 'RandomSampler'"),
    value("DATALOADER.K_TRANSFORMS", "2", "learns from one view of an image: leave it 1"),
    value("TEST.EVALUATOR", "Classify", "do you mean 'Classification'"),
    value("INPUT.TRANSFORMS", "['random_flop']", "do you mean 'random_flip'"),
    # types and ranges
    value("OPTIM.MAX_EPOCH", "1.5", "whole number", "as in 10"),
    value("VERBOSE", "1", "True or False"),
    value("OPTIM.LR", "fast", "a number", "as in 0.0"),
    value("OPTIM.LR", "nan", "from 0", "allowed"),
    value("OPTIM.LR", "-0.1", "from 0", "allowed"),
    value("OPTIM.LR", "None", "no value|a number"),
    value("OPTIM.MAX_EPOCH", "-1", "from 1", "allowed"),
    value("OPTIM.MAX_EPOCH", "0", "from 1", "allowed"),
    value("DATALOADER.TRAIN_X.BATCH_SIZE", "0", "from 1", "allowed"),
    value("DATALOADER.NUM_WORKERS", "-1", "from 0", "allowed"),
    value("SEED", "10000000000", "to 4,294,967,295"),
    value("INPUT.SIZE", "(32, 32, 3)", "a list of 2", "height and width"),
    value("INPUT.PIXEL_STD", "(1, 1, 0)", "divided by"),
    value("INPUT.RESIZE", "longest", "one of shortest, squash"),
    value("INPUT.EXIF_ORIENTATION", "upright", "one of auto, apply, ignore"),
    value("INPUT.NO_TRANSFORM", "True", "leave it False"),
    Wrong(
        "nesterov",
        ("OPTIM.SGD_NESTEROV", "True", "OPTIM.NAME", "sgd", "OPTIM.MOMENTUM", "0"),
        ("SGD_NESTEROV needs OPTIM.MOMENTUM above 0",),
    ),
    value("DATASET.SUBSAMPLE_CLASSES", "old", "allowed: all, base, new"),
    value("DATASET.TEMPLATE", "a photo", r"\{\}", "where the class name"),
    value("DATASET.TEMPLATE", "very " * 80 + "{}", "at most 77", "shorten"),
    value("TASK", "", "allowed are B2N", "TASK B2N at the end"),
    value("TASK", "B2X", "allowed are B2N .*FS .*CD"),
    # the backbone
    Wrong(
        "backbone",
        ("MODEL.BACKBONE.NAME", "ViT-B/17"),
        (r"backbone 'ViT-B/17'", "Did you mean 'ViT-B/16'"),
    ),
    *BACKBONES,
    Wrong(
        "backbone corrupt",
        ("MODEL.BACKBONE.NAME", "{tmp}/a.pt"),
        (r"a\.pt", "Allowed are OpenAI"),
        prepare=file("a.pt", "no weights"),
    ),
    Wrong(
        "backbone ResNet",
        ("MODEL.BACKBONE.NAME", "{tmp}/rn.pt", "TRAINER.MMRL.ALPHA", "1"),
        ("ResNet CLIP", "ViT-B/16"),
        prepare=resnet,
    ),
    value("INPUT.SIZE", "(224, 224)", r"32 x 32: set INPUT.SIZE"),
    *(
        value("TRAINER.MMRL.REP_LAYERS", v, "from 1 to 3", r"for example \[2, 3\]")
        for v in ("[2, 4]", "[0, 1]", "[]", "[2, 2]", "[3, 2]", "['a']")
    ),
    value("TRAINER.MMRL.N_REP_TOKENS", "0", "from 1"),
    value("TRAINER.MMRL.ALPHA", "1.5", "from 0 to 1"),
    value("TRAINER.MAPLE.PROMPT_DEPTH", "9", "from 1 .* to 3", trainer="MaPLe"),
    value("TRAINER.VPT.PROMPT_DEPTH_VISION", "9", "to 4", trainer="VPT"),
    value("TRAINER.PROMPTSRC.GPA_STD", "0", "above 0", trainer="PromptSRC"),
    value("TRAINER.COOP.N_CTX", "75", "77", trainer="CoOp")._replace(
        opts=("TRAINER.COOP.N_CTX", "75", "TRAINER.COOP.CTX_INIT", "")
    ),
    value("TRAINER.COOP.CLASS_TOKEN_POSITION", "back", "end, middle, front", trainer="CoOp"),
    value("TRAINER.MMRL.PREC", "fp8", "allowed is one of fp32, amp, fp16"),
    Wrong(
        "fp16 on a CPU",
        ("TRAINER.MMRL.PREC", "fp16", "USE_CUDA", "False"),
        ("needs a CUDA device", "take amp"),
    ),
)
