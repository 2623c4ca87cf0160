"""Names of datasets and methods in the forms that directories and configs have them."""

import csv
from collections.abc import Iterator
from functools import cache
from importlib import resources

_DATASETS = {"describabletextures": "dtd"}
_METHODS = {
    "zeroshotclip": "CLIP",
    "mmrlplus": "MMRL++",
    "mmrlpp": "MMRL++",
    "multimodaladapter": "MMA",
}


def published_rows() -> Iterator[dict[str, str]]:
    """The lines of published.csv, by column."""
    text = resources.files("tools.results").joinpath("published.csv").read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


def dataset_of(name: str | None) -> str | None:
    """`dtd` for `dtd`, `DescribableTextures`, `describable_textures`; None if it is not known."""
    return _known("dataset").get(_plain(name), _DATASETS.get(_plain(name)))


def method_of(name: str | None) -> str | None:
    """`MMRL++` for `MMRL++`, `MMRLPlus`, `MMRLpp`; None if it is not known."""
    return _known("method").get(_plain(name), _METHODS.get(_plain(name)))


def same(one: str | None, other: str | None) -> bool:
    """Whether two names differ at most in capitals and punctuation."""
    return bool(one) and _plain(one) == _plain(other)


def _plain(name: str | None) -> str:
    kept = (letter for letter in (name or "").lower() if letter.isalnum() or letter == "+")
    return "".join(kept)


@cache
def _known(column: str) -> dict[str, str]:
    names = {row[column].partition("(")[0] for row in published_rows()} - {"average"}
    return {_plain(name): name for name in names}
