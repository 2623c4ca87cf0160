"""Finding a run's checkpoint and loading it, strictly and with words for what disagrees."""

import re
from pathlib import Path

from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.utils import load_checkpoint


def find_checkpoint(
    directory: Path, model_name: str, epoch: int | None = None, best: bool = False
) -> Path:
    """`<directory>/<model_name>/model.pth.tar-<epoch>`, of the newest epoch by default.

    With `best`, and no epoch, `model-best.pth.tar` is preferred.

    Raises FileNotFoundError that says what was looked for and what there is.
    """
    folder = directory / model_name
    found = {}
    for file in folder.glob("model.pth.tar-*"):
        if match := re.fullmatch(r"model\.pth\.tar-(\d+)", file.name):
            found[int(match[1])] = file
    if epoch is None and best and (folder / "model-best.pth.tar").is_file():
        return folder / "model-best.pth.tar"
    if epoch is None and found:
        return found[max(found)]
    if epoch in found:
        return found[epoch]
    wanted = f"of epoch {epoch}" if epoch is not None else "of any epoch"
    there = f"there are epochs {sorted(found)}" if found else "there is none"
    raise FileNotFoundError(
        f"no checkpoint {wanted} in {folder}: {there}. Give --model-dir the folder of a "
        f"finished training run (the one that holds {model_name}/), and --load-epoch one of "
        "its epochs, or leave --load-epoch out for the newest"
    )


def numbered(state: dict[str, Tensor], pattern: str, start: int = 0) -> list[Tensor]:
    """The tensors under `pattern` filled with `start`, `start` + 1, ... while there are any."""
    found: list[Tensor] = []
    while (key := pattern.format(start + len(found))) in state:
        found.append(state[key])
    return found


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The learner's tensors in a checkpoint."""
    return load_checkpoint(str(path))["state_dict"]


def check_settings(cfg: CfgNode, trained: dict, keys: list[str], path: Path) -> None:
    """ValueError when one of `keys` differs from the config that `path` was trained with."""
    differ = []
    for key in keys:
        now, then = _lookup(cfg, key), _lookup(trained, key)
        if then is not None and now != then:
            differ.append(f"  {key} is {now}, trained with {then}: use {key} {_quoted(then)}")
    if differ:
        lines = "\n".join(differ)
        raise ValueError(f"{path} was trained with another config:\n{lines}")


def _lookup(tree: dict, dotted: str) -> object:
    for part in dotted.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, list | tuple) else str(value)


def load_strictly(learner: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load all of `state` into all of `learner`, or raise ValueError naming what disagrees."""
    own = learner.state_dict()
    wrong = [f"  {key} is missing" for key in own.keys() - state.keys()]
    wrong += [f"  {key} is not part of this learner" for key in state.keys() - own.keys()]
    wrong += [
        f"  {key} has shape {tuple(state[key].shape)}, the config makes {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    if wrong:
        lines = "\n".join(sorted(wrong)[:12])
        raise ValueError(
            f"{path} does not fit the learner of this config:\n{lines}\n"
            "Evaluate with the trainer, backbone and config that trained it"
        )
    learner.load_state_dict(state)
