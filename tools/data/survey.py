"""Look at a dataset as its loader does: split, counts, and whether the images are there."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dassl.utils import read_image
from tools.data.catalogue import Counts, Entry
from tools.data.toy import toy_counts

PRESENT, INCOMPLETE, MISSING = "present", "incomplete", "missing"


@dataclass
class Survey:
    """What was found of one dataset. `problems` name the first bad files."""

    expected: Counts
    drawn: bool = False  # by `toy`
    found: Counts | None = None  # None where the loader could not serve the set
    problems: list[str] = field(default_factory=list)
    state: str = PRESENT

    def add(self, problem: str, state: str = INCOMPLETE) -> None:
        self.problems.append(problem)
        self.state = state

    def add_files(self, what: str, bad: list[str], total: int) -> None:
        if bad:
            named = "".join(f"\n    {path}" for path in bad[:5])
            more = f"\n    .. and {len(bad) - 5} more" if len(bad) > 5 else ""
            self.add(f"{len(bad):,} of {total:,} images are {what}:{named}{more}")


def survey(entry: Entry, root: Path, check_files: bool = False, deep: bool = False) -> Survey:
    """`check_files`: every image is there and not empty; `deep`: and can be decoded."""
    folder = root / entry.folder
    drawn = toy_counts(folder)
    result = Survey(drawn or entry.counts, drawn is not None)
    if not folder.is_dir():
        result.add(f"{folder} is not there", MISSING)
        return result
    try:
        dataset = load(entry, root)
    except FileNotFoundError as error:
        result.add("\n".join(str(error).splitlines()[:2]))
        return result
    except ValueError as error:
        result.add(str(error))
        return result
    result.found = count(dataset)
    if result.found != result.expected:
        result.add(f"expected {describe(result.expected)}; found {describe(result.found)}")
    parts = (dataset.train_x, dataset.val or [], dataset.test)
    paths = sorted({item.impath for part in parts for item in part})
    bad = missing_files(paths, check_files or deep)
    result.add_files("missing or empty" if check_files or deep else "missing", bad, len(paths))
    if deep:
        result.add_files("damaged", undecodable(sorted({*paths} - {*bad})), len(paths))
    return result


def load(entry: Entry, root: Path) -> Any:
    """The dataset as a run gets it, but a split made on the way is not kept.

    Images may still be missing here, and a kept split would stay what it is when they arrive.
    """
    options = SimpleNamespace(ROOT=str(root), NUM_SHOTS=-1, SUBSAMPLE_CLASSES="all")
    with redirect_stdout(io.StringIO()):
        return loader(entry)(SimpleNamespace(DATASET=options, SEED=-1), keep_split=False)


def loader(entry: Entry) -> Any:
    return getattr(importlib.import_module(f"datasets.{entry.config}"), entry.name)


def count(dataset: Any) -> Counts:
    """A part that is a copy of the test set counts as none."""
    test = [item.impath for item in dataset.test]
    train, val = (
        0 if [item.impath for item in part] == test else len(part)
        for part in (dataset.train_x, dataset.val or [])
    )
    return Counts(dataset.num_classes, train, val, len(test))


def describe(counts: Counts) -> str:
    parts = zip(("train", "val", "test"), counts[1:], strict=True)
    shown = ", ".join(f"{number:,} {part}" for part, number in parts if number)
    return f"{counts.classes:,} classes: {shown}"


def missing_files(paths: Iterable[str], check_size: bool) -> list[str]:
    """Those of sorted paths that are not there (or empty), found by listing each directory once."""
    bad = []
    for folder, wanted in groupby(sorted(paths, key=os.path.split), key=os.path.dirname):
        there = set()
        if os.path.isdir(folder):
            with os.scandir(folder) as files:
                there = {f.name for f in files if not check_size or f.stat().st_size}
        bad += [path for path in wanted if os.path.basename(path) not in there]
    return sorted(bad)


def undecodable(paths: list[str]) -> list[str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        good = pool.map(is_decodable, paths, chunksize=64)
        return [path for path, fine in zip(paths, good, strict=True) if not fine]


def is_decodable(path: str) -> bool:
    try:
        read_image(path)
    except OSError:
        return False
    return True
