"""YAML files, checkpoints, plugins, and the place of the run."""

from collections.abc import Callable
from pathlib import Path

import torch

from tests.helpers.toy_run import REPO
from tests.wrong import Wrong, file

PAGE = "<!DOCTYPE html><title>Quota exceeded</title>"
EVAL = ("--eval-only", "--model-dir", "{run}")


def checkpoint(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """{tmp}/run/MultiModalRepresentationLearner/model.pth.tar-1, made by `change`."""

    def make(folder: Path) -> None:
        path = folder / "run/MultiModalRepresentationLearner/model.pth.tar-1"
        path.parent.mkdir(parents=True)
        change(path)

    return make


def yaml(text: str, *says: str, id: str) -> Wrong:
    flags = ("--config-file", "{tmp}/mine.yaml")
    return Wrong(
        f"yaml {id}", (), (r"mine\.yaml", *says), flags=flags, prepare=file("mine.yaml", text)
    )


FILES = (
    # YAML files
    Wrong(
        "yaml missing",
        (),
        ("no config file", "vit_b16.yaml"),
        flags=("--config-file", f"{REPO}/configs/trainers/MMRL/vit_b61.yaml"),
    ),
    Wrong(
        "yaml of another trainer",
        (),
        (r"CoOp/small\.yaml", "TRAINER.COOP", "TRAINER.MMRL", "give"),
        flags=("--config-file", f"{REPO}/configs/trainers/CoOp/small.yaml"),
    ),
    yaml("OPTIM: [", "not valid YAML", "line 1", id="none"),
    yaml("- a\n- list\n", "must hold keys and values", id="list"),
    yaml("OPTIM:\n\tLR: 1\n", "spaces, not tabs", "line 2", id="tabs"),
    yaml(
        "SEED: 1\nTASK: FS\nSEED: 2\n", "line 3 .*'SEED' a second time, first in line 1", id="twice"
    ),
    yaml("OPTIM: {LRR: 3}", "'OPTIM.LRR'", "did you mean OPTIM.LR", id="key"),
    yaml("OPTIM: {LR: }", "OPTIM.LR has no value", "line 1", "a number", id="null"),
    yaml("OPTIM: 5", "OPTIM holds keys, not '5'", "line 1", "such as OPTIM.NAME", id="node"),
    yaml("OPTIM:\n  LR： 5", "OPTIM holds keys", r"U\+FF1A.*plain ':'", "line 2", id="wide colon"),
    Wrong("yaml is a folder", (), ("no config file", "give"), flags=("--config-file", "{tmp}")),
    # checkpoints
    Wrong(
        "no weights",
        (),
        ("no --model-dir was given", "leave out --eval-only"),
        flags=("--eval-only",),
    ),
    Wrong(
        "no such run",
        (),
        ("there is none", "Give --model-dir"),
        flags=("--eval-only", "--model-dir", "{tmp}/nowhere"),
    ),
    Wrong(
        "another backbone",
        ("MODEL.BACKBONE.NAME", "{toy}/wide.pt"),
        ("BACKBONE.NAME is .*wide.pt, trained with .*narrow.pt", "use"),
        flags=EVAL,
    ),
    Wrong(
        "another width",
        ("TRAINER.MMRL.REP_DIM", "16"),
        ("REP_DIM is 16, trained with", "use"),
        flags=EVAL,
    ),
    Wrong(
        "other tokens",
        ("TRAINER.MMRL.N_REP_TOKENS", "3"),
        ("is 3, trained with 5: use",),
        flags=EVAL,
    ),
    Wrong(
        "no such epoch",
        (),
        ("of epoch 7", r"epochs \[1, 2\]", "Give"),
        flags=(*EVAL, "--load-epoch", "7"),
    ),
    Wrong(
        "another method", (), ("trained|fit|learns", "Evaluate|use"), trainer="MMRLPlus", flags=EVAL
    ),
    Wrong(
        "truncated",
        (),
        ("model.pth.tar-1 is damaged", "train it again"),
        flags=("--eval-only", "--model-dir", "{tmp}/run"),
        prepare=checkpoint(lambda path: path.write_bytes(b"PK\3\4" + bytes(50))),
    ),
    Wrong(
        "checkpoint is a page",
        (),
        (r"model.pth.tar-1 is a web page \('Quota exceeded'\), not the file", "fetch it again"),
        flags=("--eval-only", "--model-dir", "{tmp}/run"),
        prepare=checkpoint(lambda path: path.write_text(PAGE)),
    ),
    Wrong(
        "checkpoint is a directory",
        (),
        ("model.pth.tar-1 is a directory, not a file", "fetch the file again"),
        flags=("--eval-only", "--model-dir", "{tmp}/run"),
        prepare=checkpoint(lambda path: path.mkdir()),
    ),
    Wrong(
        "checkpoint is a second copy",
        (),
        (r"there is none, but \['model.pth.tar-1 \(1\)'\]: rename it to model.pth.tar-<epoch>",),
        flags=("--eval-only", "--model-dir", "{tmp}/run"),
        prepare=checkpoint(lambda path: path.with_name(f"{path.name} (1)").touch()),
    ),
    Wrong(
        "weights are a page",
        ("MODEL.BACKBONE.NAME", "{tmp}/clip.pt"),
        (r"clip.pt could not be read .*it is a web page \('Quota exceeded'\)", "fetch it again"),
        prepare=file("clip.pt", PAGE),
    ),
    Wrong(
        "no checkpoint",
        (),
        ("no 'state_dict'", "Give --model-dir"),
        flags=("--eval-only", "--model-dir", "{tmp}/run"),
        prepare=checkpoint(lambda path: torch.save({"a": 1}, path)),
    ),
    Wrong(
        "not tensors",
        (),
        ("'rep_tokens' in it is no plain tensor",),
        flags=("--eval-only", "--model-dir", "{tmp}/run"),
        prepare=checkpoint(lambda path: torch.save({"state_dict": {"rep_tokens": 5}}, path)),
    ),
    Wrong(
        "resume",
        (),
        ("nowhere, which is no folder", "--resume"),
        flags=("--resume", "{tmp}/nowhere"),
    ),
    Wrong(
        "resume a second copy",
        (),
        ("RESUME is .*/run", r"rename \['model.pth.tar-1 \(1\)'\] to model.pth.tar-<epoch>"),
        flags=("--resume", "{tmp}/run"),
        prepare=checkpoint(lambda path: path.with_name(f"{path.name} (1)").touch()),
        early=False,
    ),
    Wrong("resume nothing", (), ("holds no checkpoint", "--resume"), flags=("--resume", "{tmp}")),
    Wrong(
        "other config",
        ("OUTPUT_DIR", "{run}", "OPTIM.LR", "0.5"),
        ("OPTIM.LR: .* there, 0.5 now", "Choose another --output-dir"),
    ),
    # places and plugins
    Wrong(
        "output is a file",
        ("OUTPUT_DIR", "{tmp}/file"),
        ("file is a file", "--output-dir"),
        prepare=file("file", ""),
    ),
    Wrong(
        "output below a file",
        ("OUTPUT_DIR", "{tmp}/file/run"),
        ("file is a file", "--output-dir"),
        prepare=file("file", ""),
    ),
    Wrong("plugin missing", (), ("no such file",), flags=("--plugin", "{tmp}/none.py")),
    Wrong(
        "plugin of text",
        (),
        (r"a plugin must be a Python file, \*\.py",),
        flags=("--plugin", "{tmp}/a.txt"),
        prepare=file("a.txt", ""),
    ),
    Wrong(
        "plugin without anything",
        (),
        ("registers nothing: put",),
        flags=("--plugin", "{tmp}/a.py"),
        prepare=file("a.py", "x = 1"),
    ),
)
