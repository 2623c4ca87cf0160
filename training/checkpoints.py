"""Finding a run's checkpoint and loading it, strictly and with words for what disagrees."""

import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.utils import load_checkpoint
from frozen_clip.finite import check_finite
from training.method import Method
from training.published import CLASSES, CLIP, Published, state_in, trainers_of
from training.settings import MethodSettings

BEST = "model-best.pth.tar"  # of the epoch that was best on the validation images
# What a backbone that does not say it was said to be.
FACTS = ("MODEL.BACKBONE.ACTIVATION", "MODEL.BACKBONE.HEADS")
MOST_LINES = 12  # of what disagrees; a file of another kind disagrees in hundreds


def find_checkpoint(
    directory: Path,
    model_name: str,
    epoch: int | None = None,
    best: bool = False,
    public_folder: str = "",
    public_file: str = "",
) -> Path:
    """`<directory>/<model_name>/model.pth.tar-<epoch>`, of the newest epoch by default.

    With `best`, and no epoch, `model-best.pth.tar` is preferred; it also stands in for none.
    Where there is no `model_name`, `public_folder` is looked into, and `public_file` is taken,
    which is of no epoch.

    Raises FileNotFoundError that says what was looked for and what there is.
    """
    folder = directory / model_name
    if public_folder and not folder.is_dir() and (directory / public_folder).is_dir():
        folder = directory / public_folder
    alone = directory / public_file  # the directory itself, where there is no such file
    if epoch is None and not folder.is_dir() and alone.is_file():
        return alone
    found = {}
    for file in folder.glob("model.pth.tar-*"):
        if match := re.fullmatch(r"model\.pth\.tar-(\d+)", file.name):
            found[int(match[1])] = file
    if epoch is None and (best or not found) and (folder / BEST).is_file():
        return folder / BEST
    if epoch is None and found:
        return found[max(found)]
    if epoch in found:
        return found[epoch]
    wanted = f"of epoch {epoch}" if epoch is not None else "of any epoch"
    there = f"there are epochs {sorted(found)}" if found else "there is none"
    named = {BEST, *(file.name for file in found.values())}
    copies = sorted(f.name for f in folder.glob("model*tar*") if f.name not in named)
    if copies:  # a browser calls the second download "model.pth.tar-2 (1)"
        there += f", but {copies}: rename it to model.pth.tar-<epoch>"
    raise FileNotFoundError(
        f"no checkpoint {wanted} in {folder}: {there}. Give --model-dir the folder of a "
        f"finished training run (the one that holds {model_name}/), and --load-epoch one of "
        "its epochs, or leave --load-epoch out for the newest"
    )


class Checkpoint(NamedTuple):
    """The tensors in a checkpoint, and what it says of how they were trained."""

    state: dict[str, Tensor]
    metadata: dict[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """What is in a checkpoint; ValueError if it is none of a trainer."""
    content = load_checkpoint(str(path))
    state = state_in(content)
    if not isinstance(state, dict):
        raise ValueError(
            f"{path} is no checkpoint of a trainer: it has no 'state_dict'. Give --model-dir the "
            "folder of a training run"
        )
    metadata = content.get("metadata")
    return Checkpoint(plain_tensors(state, path), metadata if isinstance(metadata, dict) else {})


def plain_tensors(state: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The state, or ValueError unless it is names and dense tensors, as large as they say."""
    for key, value in state.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        if not isinstance(key, str) or not dense or value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(
                f"{path} is no checkpoint of a trainer: {key!r} in it is no plain tensor. Get the "
                "file again, or train anew"
            )
    return state


def read_tensor(path: Path) -> Tensor:
    """The one tensor that a file of torch.save holds; no code from it is run.

    FileNotFoundError if there is no file, ValueError if it is anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > 2 * path.stat().st_size:
                raise ValueError("it would unpack to far more than it is")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # there is no telling what a damaged file leads to
        why = str(error).split("\n")[0]
        raise ValueError(f"{path} holds no tensor ({why:.200}): get the file again") from error
    return plain_tensors({"it": content}, path)["it"]


def check_settings(
    cfg: CfgNode, trained: dict[str, Any], settings: MethodSettings, path: Path
) -> None:
    """ValueError where the config that `path` was trained with has another backbone, or another
    value of a key that its tensors come from."""
    keys = [
        "MODEL.BACKBONE.NAME",
        *(settings.key(k.name) for k in settings.config_keys() if k.fixed),
    ]
    keys += [k for k in FACTS if lookup(cfg, k) and lookup(trained, k)]
    differ = []
    for key in keys:
        now, then = lookup(cfg, key), lookup(trained, key)
        if then is not None and now != then:
            differ.append(f"  {key} is {now}, trained with {then}: use {key} {_quoted(then)}")
    if differ:
        lines = "\n".join(differ)
        raise ValueError(f"{path} was trained with another config:\n{lines}")


def lookup(tree: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, list | tuple) else str(value)


def load_learner(
    method: Method, state: dict[str, Tensor], path: Path, published: Published
) -> None:
    """Load all of `state` into all of the learner, or raise ValueError naming what disagrees."""
    learner, axes = method.learner, _keys_of_axes(method, published)
    state = method.of_checkpoint(state, path)
    own = learner.state_dict()
    wrong = [f"  {key} is missing" for key in sorted(own.keys() - state.keys())]
    wrong += [
        _shapes(key, state[key], own[key], axes.get(key, []))
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    extra = sorted(state.keys() - own.keys())
    wrong += [f"  {key} is not part of this learner" for key in extra]
    if wrong:
        lines = "\n".join(wrong[:MOST_LINES])
        more = f"\n  and {len(wrong) - MOST_LINES} more" if len(wrong) > MOST_LINES else ""
        trainers = " or ".join(trainers_of(state))
        whose = f"; it holds what {trainers} learns" if trainers else ""
        raise ValueError(
            f"{path} does not fit the learner of this config:\n{lines}{more}\n"
            f"Evaluate with the trainer, backbone and config that trained it{whose}"
        )
    try:
        learner.load_state_dict(state)
    except RuntimeError as error:  # types that do not become floats
        raise ValueError(f"{path} does not fit the learner of this config: {error}") from error
    advice = "Take another epoch (--load-epoch), get the file again, or train again"
    check_finite(learner.state_dict(), path, advice)


def _keys_of_axes(method: Method, published: Published) -> dict[str, list[str]]:
    """For each tensor of the learner the config keys that set its shape, as far as known."""
    words = {CLIP: "MODEL.BACKBONE.NAME", CLASSES: "the list of classes"}
    return {
        name: [words.get(k) or method.settings.key(k) for k in tensor.axes]
        for name, tensor in published.map_of(method.learner.state_dict()).tensors.items()
    }


def _shapes(name: str, theirs: Tensor, ours: Tensor, keys: list[str]) -> str:
    """A line on shapes that differ, with the config keys that make the difference."""
    line = f"  {name} has shape {tuple(theirs.shape)}, the config makes {tuple(ours.shape)}"
    if theirs.dim() != ours.dim():
        return f"{line}: {keys[0]} decides" if keys else line
    axes = zip(keys[-ours.dim() :], ours.shape, theirs.shape, strict=True) if keys else ()
    differ = [f"{key} makes {now}, needed is {then}" for key, now, then in axes if now != then]
    return ": ".join([line, *filter(None, [", ".join(differ)])])
