"""What a user reads when data is not where it was looked for: one screen, with the next step."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from ._files import ODD


class Place(NamedTuple):
    """Where a dataset was looked for, and how to get it."""

    name: str  # registered name
    root: str  # absolute
    folder: str  # the dataset's directory under root
    asked: str  # the setting that led there, as the user gave it
    how_to_get: str


def data_root(given: str, name: str) -> str:
    """The absolute data root; `given` may be relative to the current directory or start with ~."""
    if not given:
        raise ValueError(
            f"{name}: no data root was given (DATASET.ROOT is empty). "
            "Add --root FOLDER, the directory that holds the datasets' directories"
        )
    return os.path.abspath(os.path.expanduser(given))


def check_place(place: Place, needed: Sequence[str]) -> None:
    """FileNotFoundError unless root, dataset and each needed directory in it hold something.

    ValueError where the name of one of them could not be written into the records of a run.
    The files themselves are not looked at: with a million of them that takes minutes.
    """
    path = os.path.join(place.root, place.folder)
    if ODD.search(path):
        raise ValueError(
            f"{place.name}: {path!a} has a name that is not UTF-8, or a control "
            "character; rename it, or make a link to it under another name (ln -s)"
        )
    if not os.path.isdir(place.root):
        raise missing(place, place.root, "the data root does not exist")
    if not os.path.isdir(path):
        raise missing(place, path, _no_folder(place))
    for name in needed:
        images = os.path.join(path, name)
        if not os.path.isdir(images):
            raise missing(place, images, f"{place.folder}/ is there, the images in {name}/ are not")
        with os.scandir(images) as entries:
            if next(entries, None) is None:
                raise missing(place, images, "the directory is empty")


def _no_folder(place: Place) -> str:
    if os.path.basename(place.root) == place.folder:
        return f"--root must be the directory of {place.folder}/, not {place.folder}/ itself"
    present = sorted(entry.name for entry in os.scandir(place.root) if entry.is_dir())
    plain = {name.lower().replace("_", "-"): name for name in present}
    similar = difflib.get_close_matches(place.folder.replace("_", "-"), plain, n=1)
    if similar:
        there = plain[similar[0]]
        return f"the data root has no folder {place.folder}; did you mean its folder {there!r}?"
    listed = ", ".join(present[:6]) + (", .." if len(present) > 6 else "")
    return f"the data root has no folder {place.folder}; its folders: {listed or 'none'}"


def missing(place: Place, path: str, what: str) -> FileNotFoundError:
    """The error to raise: what is missing, where it was looked for, how to go on."""
    return FileNotFoundError(
        f"""{place.name}: {what}
  looked for   {path}
  asked for    {place.asked}
  get it       {place.how_to_get}
               by hand, and what belongs where: docs/DATASETS.md
  or first try the demo dataset, drawn here in seconds:
               make demo
               or: python -m tools.toy data/toy && \\
                   DATA=data/toy CFG=small \\
                   bash scripts/mmrl/base2new_train.sh colored_shapes 1"""
    )


def download_command(config: str, root_given: str) -> str:
    return f"python -m tools.data download {config} --root {shlex.quote(root_given)}"
