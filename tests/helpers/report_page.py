"""The report's page as a reader sees it: tables, tags and text, for the tests of what it says."""

import re
from html.parser import HTMLParser
from pathlib import Path

from tests.helpers.result_files import results, write
from tools.report.__main__ import main

VOID = {"meta", "link"}


class Reader(HTMLParser):
    """Tables by title, with the text of their cells; all tags; all text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self._title = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("h2", "figcaption"):
            self._title = ""
        elif tag == "table":
            self.tables[self._title] = []
        elif tag == "tr":
            self.tables[self._title].append([])
        elif tag in ("td", "th"):
            self.tables[self._title][-1].append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        inside = set(self._open)
        if inside & {"script", "style"}:
            return
        self.words.append(data)
        if inside & {"h2", "figcaption"}:
            self._title += data
        elif inside & {"td", "th"}:
            self.tables[self._title][-1][-1] += data.strip("\n")

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def report(root: Path, *flags: str, status: int = 0) -> Reader:
    page = root.parent / "report.html"
    assert main([str(root), "-o", str(page), *flags]) == status
    return Reader(page.read_text(encoding="utf-8"))


def accuracy(folder: Path, correct: int, **changes: object) -> Path:
    """A run with `correct` of 1,000 pictures right and nothing else to show."""
    write(folder / "results.json", results(correct, 1000, **changes))
    return folder
