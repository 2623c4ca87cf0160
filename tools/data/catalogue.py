"""What is known of each published dataset, read from catalogue.yaml."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

MIRROR = "https://huggingface.co/datasets/zhengli97/prompt_learning_dataset"


class Counts(NamedTuple):
    """Images as a loader serves them; 0 where a set has no such part."""

    classes: int
    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Source:
    """A file to get. `gives`: place in the dataset's directory -> end of the path in the file."""

    file: str
    gives: dict[str, str]
    url: str = ""
    drive: str = ""
    md5: str = ""
    optional: bool = False
    by_hand: bool = False

    @property
    def web_page(self) -> str:
        """Where a browser finds the file; '' where it is only to be had by hand."""
        return f"https://drive.google.com/file/d/{self.drive}/view" if self.drive else self.url


@dataclass(frozen=True)
class Entry:
    config: str  # as in configs/datasets/<config>.yaml and datasets/<config>.py
    name: str  # registered name
    folder: str
    counts: Counts
    sources: list[Source]
    by_hand: str

    def missing(self, root: Path) -> list[Source]:
        """Required files of which something is not in place."""
        return [s for s in self.sources if not s.optional and self.places_missing(s, root)]

    def places_missing(self, source: Source, root: Path) -> dict[str, str]:
        """The part of `source.gives` that is not under root/folder yet."""
        folder = root / self.folder
        return {place: end for place, end in source.gives.items() if not (folder / place).exists()}


@cache
def catalogue() -> dict[str, Entry]:
    """Config name -> entry, in the order of the published tables."""
    content = yaml.safe_load(Path(__file__).with_name("catalogue.yaml").read_text("utf-8"))
    return {config: _entry(config, **fields) for config, fields in content.items()}


def _entry(
    config: str, name: str, folder: str, counts: list[int], files: list[Any], by_hand: str = ""
) -> Entry:
    mirror = "" if config == "imagenet" else f"A mirror with images and split file: {MIRROR}\n"
    sources = [_source(**file) for file in files]
    return Entry(config, name, folder, Counts(*counts), sources, by_hand + mirror)


def _source(file: str, gives: list[str] | dict[str, str] | None = None, **rest: Any) -> Source:
    places = gives or [file]
    return Source(file, places if isinstance(places, dict) else {p: p for p in places}, **rest)


def find_entry(name: str) -> Entry:
    """By config name ('dtd') or registered name ('DescribableTextures'), in any case."""
    entries = catalogue().values()
    known = {key.lower(): entry for entry in entries for key in (entry.config, entry.name)}
    if name.lower() in known:
        return known[name.lower()]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {known[near[0]].config}? " if near else ""
    raise ValueError(
        f"there is no dataset {name!r} to look after; {hint}allowed: {', '.join(catalogue())} "
        "(the demo dataset colored_shapes is drawn by `make demo`)"
    )
