"""Snapshots: what a run keeps of an epoch it is in the middle of.

`OUTPUT_DIR/in_progress/epoch-<E>-step-<S>.pth.tar` holds a whole run, when E epochs were done and
S steps of the next. The last two are kept; when training is over, the folder goes.
"""

import io
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from dassl.utils.whole_files import remove_parts, write_whole

FOLDER = "in_progress"
KEPT = 2

Place = tuple[int, int]  # epochs done, steps done of the next


def serialise(state: dict[str, Any]) -> bytes:
    """Return what `torch.save` makes of `state`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def write_snapshot(directory: Path, place: Place, state: dict[str, Any] | bytes) -> Path:
    """Write a snapshot, `serialise`d or not, and remove all but it and the one before it.

    Raises:
        OSError: there is no room for it.
    """
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "epoch-{}-step-{}.pth.tar".format(*place)
    if isinstance(state, bytes):
        write_whole(path, lambda part: part.write_bytes(state))
    else:
        write_whole(path, lambda part: torch.save(state, part))
    found = find_snapshots(directory)
    ahead = [other for there, other in found if there > place]  # could not be read, or was not
    before = [other for there, other in found if there < place]
    for old in ahead + before[KEPT - 1 :]:
        old.unlink()
    return path


def find_snapshots(directory: Path) -> list[tuple[Place, Path]]:
    """Return the snapshots of a run, those with most done first."""
    found = []
    for path in directory.glob(f"{FOLDER}/*"):
        if match := re.fullmatch(r"epoch-(\d+)-step-(\d+)\.pth\.tar", path.name):
            found.append(((int(match[1]), int(match[2])), path))
    return sorted(found, reverse=True)


def remove_snapshots(directory: Path) -> None:
    """Remove all snapshots of a run that is over."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def clean_up(directory: Path, models: list[str]) -> None:
    """Remove what a killed run left half written."""
    for folder in (directory, directory / FOLDER, *(directory / name for name in models)):
        remove_parts(folder)
