"""Looks at a data set the way its loader does: split, counts, and whether the images are there."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dassl.utils import read_image
from tools.data.catalogue import Counts, Entry
from tools.data.toy import toy_counts

PRESENT, INCOMPLETE, MISSING = "present", "incomplete", "missing"


@dataclass
class Survey:
    """What was found of one data set. `problems` are whole sentences, the first bad files named."""

    entry: Entry
    expected: Counts
    drawn: bool = False  # by `toy`
    found: Counts | None = None  # None where the loader could not serve the set
    problems: list[str] = field(default_factory=list)
    state: str = PRESENT

    def add(self, problem: str) -> None:
        self.problems.append(problem)
        self.state = INCOMPLETE


def survey(entry: Entry, root: Path, check_files: bool = False, deep: bool = False) -> Survey:
    """`check_files`: every image is there and not empty; `deep`: and can be decoded."""
    folder = root / entry.folder
    drawn = toy_counts(folder)
    result = Survey(entry, drawn or entry.counts, drawn is not None)
    if not folder.is_dir():
        result.add(f"{folder} is not there")
        result.state = MISSING
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
    paths = sorted({item.impath for item in images(dataset)})
    bad = missing_files(paths, check_files or deep)
    report_bad(result, "missing or empty" if check_files or deep else "missing", bad, len(paths))
    if deep:
        report_bad(result, "damaged", undecodable(sorted({*paths} - {*bad})), len(paths))
    return result


def load(entry: Entry, root: Path) -> Any:
    """The data set as a run gets it, but a split made on the way is not kept.

    Images may still be missing here, and a kept split would stay what it is when they arrive.
    """
    cls = loader(entry)
    looked_at = type(entry.name, (cls,), {"keep": lambda self, split: None})
    looked_at.__module__ = cls.__module__
    options = SimpleNamespace(ROOT=str(root), NUM_SHOTS=-1, SUBSAMPLE_CLASSES="all")
    with redirect_stdout(io.StringIO()):
        return looked_at(SimpleNamespace(DATASET=options, SEED=-1))


def loader(entry: Entry) -> type:
    return getattr(importlib.import_module(f"datasets.{entry.config}"), entry.name)


def images(dataset: Any) -> list[Any]:
    return [*dataset.train_x, *(dataset.val or []), *dataset.test]


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


# ---------------------------------------------------------------- files


def missing_files(paths: Iterable[str], check_size: bool) -> list[str]:
    """Paths that are not there (or hold nothing), found by listing each folder once."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(os.path.dirname(path), []).append(path)
    bad = []
    for folder, wanted in by_folder.items():
        there = _file_names(folder, check_size)
        bad += [path for path in wanted if os.path.basename(path) not in there]
    return sorted(bad)


def _file_names(folder: str, check_size: bool) -> set[str]:
    if not os.path.isdir(folder):
        return set()
    with os.scandir(folder) as entries:
        return {e.name for e in entries if not check_size or e.stat().st_size}


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


def report_bad(result: Survey, what: str, bad: list[str], total: int) -> None:
    if bad:
        named = "".join(f"\n    {path}" for path in bad[:5])
        more = f"\n    .. and {len(bad) - 5} more" if len(bad) > 5 else ""
        result.add(f"{len(bad):,} of {total:,} images are {what}:{named}{more}")
