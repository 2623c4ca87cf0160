"""The page: one HTML file that needs nothing else, neither network nor files beside it."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tools.report.plots import printable

HERE = Path(__file__).parent


class Cell(NamedTuple):
    """Text, what it is sorted by (None: behind all others), and how it is marked.

    kind: '', 'name', 'text', 'lines', 'best', 'partial', 'missing' or 'differs'
    """

    text: str
    value: float | str | None = None
    kind: str = ""
    hint: str = ""


def name_cell(text: object) -> Cell:
    """The first cell of a row."""
    return Cell(str(text), str(text), "name")


def text_cell(text: object) -> Cell:
    return Cell(str(text), str(text), "text")


@dataclass(frozen=True)
class Table:
    """Rows that can be sorted by each column, and last rows that stay last."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    last: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def is_text(self, column: int) -> bool:
        """Whether a column holds words rather than numbers."""
        return any(row[column].kind in ("text", "differs") for row in self.rows)


@dataclass(frozen=True)
class Matrix:
    """Rows are classes, columns predictions; `rows` hold a text and a level of shade (0 to 9)."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[tuple[str, int]]]]
    notes: list[str]


@dataclass(frozen=True)
class Detail:
    """A run's part of the page; `plots` are names and data URIs."""

    key: str
    path: str
    texts: list[str]
    plots: list[tuple[str, str]]
    tables: list[Table]
    matrix: Matrix | None


@dataclass(frozen=True)
class Section:
    title: str
    texts: list[str] = field(default_factory=list)
    plots: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    runs: list[tuple[str, list[tuple[str, Detail]]]] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """`notices`: what to know before a number is believed, each with items that are folded away."""

    title: str
    summary: str
    notices: list[tuple[str, list[str]]]
    sections: list[Section]
    footer: str


def render(page: Page) -> str:
    """HTML. All text is escaped, and a policy in the page forbids requests and foreign scripts."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    script = (HERE / "page.js").read_text()
    digest = hashlib.sha256(script.encode()).digest()
    return environment.get_template("page.html").render(
        page=page,
        css=Markup((HERE / "page.css").read_text()),
        script=Markup(script),
        script_hash=base64.b64encode(digest).decode(),
    )


def _code(text: str) -> Markup:
    """Escaped, with what stands between `backticks` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(_finalize(text)))))


def _finalize(value: Any) -> Any:
    """Text that HTML and UTF-8 can hold, whatever a path or a class is called."""
    return printable(value) if type(value) is str else value
