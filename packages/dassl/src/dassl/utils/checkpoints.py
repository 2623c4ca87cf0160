"""Files that hold the state of a run: written whole or not at all, read without running code."""

import os
import pickle
import re
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import plain_pickle
from .atomic_io import atomic_write
from .distributed import barrier, is_main
from .file_kinds import what_it_is
from .finite import not_finite
from .tools import StrPath

BEST = "model-best.pth.tar"
POINTER = "checkpoint"  # text file: the name of the newest checkpoint beside it


def checkpoint_name(epoch: int) -> str:
    """Return the file name of the checkpoint made when `epoch` epochs were done."""
    return f"model.pth.tar-{epoch}"


def save_checkpoint(
    state: dict[str, Any],
    save_dir: StrPath,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Write `state` to `save_dir` and name it there in the text file `checkpoint`.

    A kill at any moment leaves either the old files or the new ones, never half of one. Of the
    processes of a run the first one writes, and the others wait for it.

    Args:
        state: 'state_dict' and 'epoch' (epochs done) at least; commonly 'optimizer',
            'scheduler' and 'val_result'.
        is_best: also copy it to model-best.pth.tar.
        remove_module_from_keys: drop the 'module.' that wrappers for several GPUs put before names.
        model_name: the file's name; by default model.pth.tar-<epoch>.
    """
    if remove_module_from_keys:
        state = {**state, "state_dict": strip_module(state["state_dict"])}
    if is_main():
        _write(state, Path(save_dir), is_best, model_name)
    barrier()


def _write(state: dict[str, Any], folder: Path, is_best: bool, model_name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (model_name or checkpoint_name(state["epoch"]))
    atomic_write(path, lambda part: torch.save(state, part))
    print(f"Checkpoint saved to {path}")
    if is_best:
        atomic_write(folder / BEST, lambda part: shutil.copyfile(path, part))
    atomic_write(folder / POINTER, lambda part: part.write_text(path.name + "\n"))


def load_checkpoint(fpath: StrPath) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. No code from the file is run.

    Raises:
        ValueError: the path is empty, or the file is damaged, another file, or holds more than
            plain data.
        FileNotFoundError: there is no such file.
    """
    if not fpath:
        raise ValueError("The path of the checkpoint is empty")
    if not (os.path.isfile(fpath) or os.path.isdir(fpath)):
        raise FileNotFoundError(f"No checkpoint at {os.fspath(fpath)!r}")
    try:
        plain_pickle.check_archive(fpath)
        content = _read(fpath)
    except Exception as error:  # there is no telling what a half file leads to
        raise ValueError(_why_not(Path(fpath), error)) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{fpath} holds a {type(content).__name__} and no checkpoint, which has a 'state_dict'"
        )
    return content


def _why_not(path: Path, error: Exception) -> str:
    """Say why a file was not loaded, and what can be done."""
    if what := what_it_is(path):
        return f"{path} is {what}, or train it again{_others(path)}"
    if isinstance(error, pickle.UnpicklingError):
        return (
            f"{path} was not loaded: it is damaged, or reading it would run code from it "
            f"({error}). If it is whole, it can be saved anew where it was made, with nothing but "
            "tensors, numbers and text, which are all that is read: torch.save({'state_dict': "
            "model.state_dict(), 'epoch': 5}, 'model.pth.tar-5'). Else fetch it again"
        )
    why = _first_line(error)
    return f"{path} is damaged and cannot be read ({why}): fetch or train it again{_others(path)}"


def _others(path: Path) -> str:
    """Name the epochs beside a checkpoint that cannot be used."""
    others = [
        epoch for epoch in finished_epochs(path.parent) if checkpoint_name(epoch) != path.name
    ]
    return f", or use another epoch beside it: {others}" if others else ""


def load_intact(path: Path) -> dict[str, Any]:
    """Like `load_checkpoint`, but also compare the checksums that torch writes and never reads.

    Raises:
        ValueError: as there, or a byte is not what it was.
    """
    checkpoint = load_checkpoint(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if (entry := archive.testzip()) is not None:
                raise ValueError(f"{path} is damaged: {entry} in it is not what was saved")
    return checkpoint


def _read(path: StrPath) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # more than weights: perhaps of Dassl 0.6
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=plain_pickle)


def resume_from_checkpoint(
    fdir: StrPath,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
) -> int:
    """Load the newest checkpoint of a folder into what is given; return the epochs done.

    Raises:
        FileNotFoundError: the folder has none.
    """
    names = resume_candidates([Path(fdir)])
    if not names:
        raise FileNotFoundError(f"No checkpoint in {fdir} ({describe(Path(fdir))})")
    path = Path(fdir) / names[0]
    checkpoint = load_checkpoint(path)
    restore(checkpoint, path, model, optimizer, scheduler)
    print(f"Resumed from {path}: {checkpoint['epoch']} epochs are done")
    return checkpoint["epoch"]


def restore(
    checkpoint: dict[str, Any],
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
) -> None:
    """Load the parts of a checkpoint into the objects given, the scheduler after its optimizer.

    Raises:
        ValueError: it was made by another model or optimizer, or has values that are not finite.
    """
    if "state_dict" not in checkpoint:
        raise ValueError(f"{path} is no checkpoint of a trainer: it has no 'state_dict'")
    parts = (("state_dict", model), ("optimizer", optimizer), ("scheduler", scheduler))
    for key, target in parts:
        if target is None or checkpoint.get(key) is None:
            continue
        try:
            target.load_state_dict(checkpoint[key])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                f"'{key}' in {path} does not fit this run's {type(target).__name__}: was it made "
                f"with another configuration? To train anew choose another OUTPUT_DIR. ({error})"
            ) from error
    check_finite(model, optimizer, path)


def check_finite(model: nn.Module, optimizer: torch.optim.Optimizer | None, path: StrPath) -> None:
    """Check that loaded parameters and optimizer states are finite. Buffers need not be: masks.

    Raises:
        ValueError: one is not.
    """
    values: dict[str, Tensor] = dict(model.named_parameters())
    for number, state in (optimizer.state_dict().get("state", {}) if optimizer else {}).items():
        values |= {
            f"optimizer.{number}.{key}": value
            for key, value in state.items()
            if isinstance(value, Tensor) and not _may_overflow(key, value)
        }
    if bad := not_finite(values):
        raise ValueError(
            f"{path} has values that are infinite or NaN: {', '.join(bad[:3])}. Move it elsewhere, "
            "and the one before it is used; without one, train again"
        )


def _may_overflow(key: str, value: Tensor) -> bool:
    """Say whether it is a sum of squares, whose weights stay finite where it is infinite."""
    return ("sq" in key or key == "sum") and not value.isnan().any()


def finished_epochs(folder: Path) -> list[int]:
    """Return the epochs that a folder has checkpoints of, newest first."""
    matches = (re.fullmatch(r"model\.pth\.tar-(\d+)", path.name) for path in _files(folder))
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def common_epochs(folders: list[Path]) -> list[int]:
    """Return the epochs that all folders (one per model) have checkpoints of, newest first."""
    shared = set.intersection(*(set(finished_epochs(folder)) for folder in folders))
    return sorted(shared, reverse=True)


def resume_candidates(folders: list[Path]) -> list[str]:
    """Return the file names a run may go on from, best first, which all folders have.

    The first is what the `checkpoint` files name, if they agree: it may be model-best.pth.tar,
    saved after the newest numbered one.
    """
    names = [checkpoint_name(epoch) for epoch in common_epochs(folders)]
    pointed = _pointed(folders[0])
    if pointed and all(_pointed(folder) == pointed for folder in folders):
        names = [pointed, *(name for name in names if name != pointed)]
    return names


def describe(folder: Path) -> str:
    """Say for a message which checkpoints a folder has."""
    if not folder.is_dir():
        return "the folder does not exist"
    names = [path.name for path in _files(folder) if path.name.startswith("model")]
    right = {BEST, *map(checkpoint_name, finished_epochs(folder))}
    wrong = [name for name in names if "tar" in name and name not in right]  # second copies, say
    hint = f"; rename {wrong} to model.pth.tar-<epoch>" if wrong else ""
    return f"it has {names}{hint}" if names else "it has no checkpoint at all"


def strip_module(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return `state_dict` without the 'module.' that wrappers for several GPUs put before names."""
    return OrderedDict((key.removeprefix("module."), value) for key, value in state_dict.items())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _pointed(folder: Path) -> str | None:
    pointer = folder / POINTER
    name = pointer.read_bytes()[:100].decode(errors="replace").strip() if pointer.is_file() else ""
    return name if re.fullmatch(r"model[\w.-]*", name) and (folder / name).is_file() else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
