"""A learner's weights from one kind of file to another.

    python -m tools.convert_checkpoint IN OUT [--to ours|public|safetensors] [--trainer NAME]

IN is a checkpoint of this repository or of a method's published code, a .safetensors file
written here, or the directory of a run. OUT is a file (*.pth, *.pt, model.pth.tar-<epoch>,
*.safetensors) or the directory of a run, which `train.py --model-dir` takes.

    ours         the learner under its own names: what a run here saves
    public       the learner under the published code's names; that code keeps the whole of
                 CLIP beside it, which is frozen and not in a checkpoint of ours: load it there
                 with strict=False
    safetensors  the learner under its own names, trainer and epoch in the metadata
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from common.atomic import atomic_write
from common.safe_yaml import read_yaml
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint, what_it_is
from frozen_clip.finite import check_finite
from run.command import Parser, guarded, path, piped, printing_stops_nothing
from run.config import default_config
from training.checkpoints import find_checkpoint, plain_tensors
from training.published import KeyMap, Published, State, nested, published, state_in, trainers_of

CONFIG = "config.yaml"  # what a run of ours was trained with
KINDS = ("ours", "public", "safetensors")
FILE = re.compile(r".*\.(pth|pt|safetensors)|.*\.pth\.tar(-\w+)?")


def main(argv: list[str] | None = None) -> int:
    """0 when written, 2 when something is wrong with IN, OUT or the flags."""
    parser = Parser(prog="python -m tools.convert_checkpoint", description=__doc__)
    parser.add_argument("source", metavar="IN", type=path)
    parser.add_argument("target", metavar="OUT", type=path)
    parser.add_argument("--to", choices=KINDS, help="default: by the name of OUT, else ours")
    parser.add_argument("--trainer", help="whose learner it is, where that is not clear")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args), args)


@printing_stops_nothing()
def run(args: argparse.Namespace) -> None:
    default_config()  # registers the trainers
    print(convert(args.source, args.target, args.to, args.trainer, args.force))


def convert(
    source: Path,
    target: Path,
    to: str | None = None,
    trainer: str | None = None,
    force: bool = False,
) -> str:
    """Convert, and say what was written. ValueError or OSError where that cannot be done."""
    to = to or ("safetensors" if target.suffix == ".safetensors" else "ours")
    if (to == "safetensors") != (target.suffix == ".safetensors"):
        raise ValueError(
            f"--to {to} does not go with OUT {target}: *.safetensors is its own kind; "
            "choose another name for OUT, or leave out --to"
        )
    if trainer is not None and trainer not in _learning():
        raise ValueError(f"--trainer {trainer!r} is unknown; allowed: {', '.join(_learning())}")
    trainer = trainer or _named_in(source)
    file = find(source, trainer)
    state, epoch, said = read(file)
    name = whose(state, file, trainer)
    key_map = _key_map(name, state)
    own, starts = key_map.own_names(state), _starts(key_map, state, [said, _node(source, name)])
    learner = {key: t.float() if t.is_floating_point() else t for key, t in own.items()}
    check_finite(learner, file, "Convert another epoch, or get the file again")
    is_file = FILE.fullmatch(target.name) is not None
    theirs = published(TRAINER_REGISTRY.get(name)) if to == "public" else Published()
    folder = theirs.directory or TRAINER_REGISTRY.get(name).model_name
    path = target if is_file else target / (theirs.file or f"{folder}/model.pth.tar-{epoch}")
    if theirs.file:
        said = said or _metadata(name, source)
    config = None if is_file or not (source / CONFIG).is_file() else target / CONFIG
    for output in filter(None, (path, config)):
        if output.exists() and not force:
            raise ValueError(f"{output} exists already; add --force to overwrite it")
    owner = trainer or " or ".join(trainers_of(state))  # IVLP and PromptSRC look alike
    if to == "public" and not key_map.tensors:
        raise ValueError(
            f"no published checkpoints of {name} are known: convert --to ours or safetensors"
        )
    if to == "public" and (lacking := key_map.start_keys - starts.keys()):
        raise ValueError(
            f"{file} does not say in which layer {name} starts ({min(lacking)}): convert the "
            f"directory of its run, whose {CONFIG} does"
        )
    tensors = key_map.to_published(learner, starts) if to == "public" else learner
    beside = {**said, **starts} if to != "public" or theirs.file else {}
    write(path, tensors, owner, epoch, beside, bool(theirs.file))
    if config and config.resolve() != (source / CONFIG).resolve():
        shutil.copy(source / CONFIG, config)
    count = sum(tensor.numel() for tensor in learner.values() if tensor.is_floating_point())
    return f"{path}: {count:,} values that {owner} learned in {epoch} epochs, from {file}"


def find(source: Path, trainer: str | None) -> Path:
    """The checkpoint in a run's directory or in that of its checkpoints, or `source` itself."""
    if not source.exists():
        raise FileNotFoundError(f"there is no {source}")
    if source.is_file():
        return source
    names = [trainer] if trainer else _learning()
    trainers = [TRAINER_REGISTRY.get(name) for name in names]
    theirs = {published(t).directory for t in trainers} - {""}
    files = sorted({published(t).file for t in trainers} - {""})
    folders = sorted({t.model_name for t in trainers} | theirs)
    if source.name in folders and any(source.glob("model*.pth.tar*")):
        return find_checkpoint(source.parent, source.name)
    there = [name for name in folders if (source / name).is_dir()]
    there = there or [name for name in files if (source / name).is_file()]
    if len(there) != 1:
        what = f"several: {there}. Name one of them" if there else f"none of {folders + files}"
        raise ValueError(f"{source} must be a directory of one run's checkpoints, but has {what}")
    return source / there[0] if there[0] in files else find_checkpoint(source, there[0])


def read(file: Path) -> tuple[State, int, dict[str, Any]]:
    """The tensors of a file, the number of epochs they were trained, 0 if it is not said, and what
    a file says beside them of the settings."""
    if file.suffix != ".safetensors":
        content = load_checkpoint(file)
        found = state_in(content)
        state = content if found is None else found
        tensors = {k: t for k, t in state.items() if isinstance(t, Tensor)}
        epoch = content.get("epoch") if state is not content and tensors else 0
        said = content.get("metadata") if isinstance(content, dict) else None
        said = said if isinstance(said, dict) else {}
        return plain_tensors(tensors, file), _as_epoch(epoch, file), said
    try:
        with safe_open(file, framework="pt") as tensors:
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
            beside = tensors.metadata() or {}
            said = _as_settings(beside.get("settings", "{}"), file)
            return state, _as_epoch(beside.get("epoch"), file), said
    except SafetensorError as error:
        what = what_it_is(file)
        why = f"it is {what}" if what else f"{error}. Get it again"
        raise ValueError(f"{file} is no .safetensors file: {why}") from error


def _as_epoch(value: object, file: Path) -> int:
    if value is not None and not re.fullmatch(r"\d{1,9}", str(value)):
        raise ValueError(f"{file} says that it is of epoch {value!r:.40}; get another copy of it")
    return int(str(value or 0))


def _as_settings(text: str, file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise ValueError(f"{file} says that its settings are {text!r:.40}; get another copy of it")
    return settings


def whose(state: State, file: Path, trainer: str | None) -> str:
    """The trainer whose learner a file holds; ValueError if none or several might be meant."""
    known = trainers_of(state)
    if trainer:
        own = _key_map(trainer, state)
        if own.tensors and not own.found_in(state) and not own.is_ours(state):
            seems = f"; it holds what {' or '.join(known)} learns" if known else ""
            raise ValueError(f"{file} does not hold what {trainer} learns{seems}")
        return trainer
    if not known:
        raise ValueError(
            f"{file} holds {len(state)} tensors, but not all that one of these learns: "
            f"{', '.join(_learning())}"
        )
    if any(_key_map(name, state) != _key_map(known[0], state) for name in known):
        raise ValueError(f"{file} may be of {' or '.join(known)}: say which with --trainer")
    return known[0]


def write(
    path: Path, state: State, trainer: str, epoch: int, said: dict[str, Any], alone: bool
) -> None:
    """Write a file of the kind that its name says, atomically, with what `read` finds beside the
    tensors; `alone`: as published code that keeps one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.contiguous() for key, tensor in state.items()}
    content = {"state_dict": tensors, "epoch": epoch} | ({"metadata": said} if said else {})
    if alone:
        content = {"weights": nested(tensors), "metadata": said}
    with atomic_write(path) as draft:
        if path.suffix == ".safetensors":
            metadata = {"trainer": trainer, "epoch": str(epoch)}
            metadata |= {"settings": json.dumps(said)} if said else {}
            save_file(tensors, draft, metadata=metadata)
        else:
            torch.save(content, draft)


def _learning() -> list[str]:
    """The trainers that learn something."""
    names = TRAINER_REGISTRY.registered_names()
    return [n for n in names if getattr(TRAINER_REGISTRY.get(n), "model_name", "")]


def _key_map(trainer: str, state: State) -> KeyMap:
    return published(TRAINER_REGISTRY.get(trainer)).map_of(state)


def _starts(key_map: KeyMap, state: State, places: list[dict[str, Any]]) -> dict[str, int]:
    """In which layer the learner starts, for one whose own tensors do not say it: by a published
    file's names, or by the first of the places that has the key."""
    found = key_map.starts_in(state)
    for said in places:
        known = {key: str(said[key]) for key in key_map.start_keys & said.keys()}
        found = {key: int(n) for key, n in known.items() if re.fullmatch(r"\d{1,4}", n)} | found
    return found


def _node(source: Path, trainer: str) -> dict[str, Any]:
    """A trainer's node in the config of its run, empty if there is none."""
    node = _trained_in(source).get(getattr(TRAINER_REGISTRY.get(trainer), "node", ""))
    return node if isinstance(node, dict) else {}


def _named_in(source: Path) -> str | None:
    """The trainer in the config that a run of ours leaves beside its checkpoints."""
    return _trained_in(source).get("NAME")


def _trained_in(source: Path) -> dict[str, Any]:
    """TRAINER in that config; empty if there is none."""
    near = source.parent if source.is_file() else source
    for file in (near / CONFIG, near.parent / CONFIG):
        node = read_yaml(file).get("TRAINER") if file.is_file() else None
        if isinstance(node, dict) and node.get("NAME") in _learning():
            return node
    return {}


def _metadata(name: str, source: Path) -> dict[str, Any]:
    """The settings that a published file says, of a run of ours."""
    trainer, trained = TRAINER_REGISTRY.get(name), _trained_in(source)
    keys = published(trainer).metadata
    if trained.get("NAME") != name:
        raise ValueError(
            f"a public file of {name} also says {', '.join(keys)}, and there is no {CONFIG} of "
            f"{name} beside {source} that tells them: convert the directory of the run"
        )
    values = {**trainer.Method.Settings.config_node(), **(trained.get(trainer.node) or {})}
    return {theirs: values[ours] for theirs, ours in keys.items()}


if __name__ == "__main__":
    sys.exit(piped(main))
