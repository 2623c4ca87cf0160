"""What the page is made of: tables of cells, notes, and figures."""

from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup


class Cell(NamedTuple):
    """Text, what it is sorted by (None: behind all others), and how it is marked.

    kind: '', 'name', 'text', 'lines', 'best', 'partial', 'missing' or 'differs'
    """

    text: str
    value: float | str | None = None
    kind: str = ""
    hint: str = ""


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
class Plot:
    """A figure of the page."""

    svg: Markup
    caption: str = ""


def name_cell(text: object) -> Cell:
    """The first cell of a row."""
    return Cell(str(text), str(text), "name")


def text_cell(text: object) -> Cell:
    return Cell(str(text), str(text), "text")
