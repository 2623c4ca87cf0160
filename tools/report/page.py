"""The page: one HTML file that needs nothing else, neither network nor files beside it."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tools.report.details import Detail
from tools.report.elements import Plot, Table
from tools.report.svg import printable, variables

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Notice:
    """Something to know before a number is believed; `items` are folded away."""

    text: str
    items: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    title: str
    texts: list[str] = field(default_factory=list)
    legend: list[Plot] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    runs: list[tuple[str, list[tuple[str, Detail]]]] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    title: str
    summary: str
    notices: list[Notice]
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
    css = environment.get_template("page.css").render(variables=variables())
    return environment.get_template("page.html").render(
        page=page,
        css=Markup(css),
        script=Markup(script),
        script_hash=base64.b64encode(digest).decode(),
    )


def _code(text: str) -> Markup:
    """Escaped, with what stands between `backticks` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(_finalize(text)))))


def _finalize(value: Any) -> Any:
    """Text that HTML and UTF-8 can hold, whatever a path or a class is called."""
    return printable(value) if type(value) is str else value
