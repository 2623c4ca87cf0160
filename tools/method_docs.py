"""What the docstrings of the files in trainers/ say of their methods, read without importing them.

The first line is `Name: what it does.`, then the paper stands as `VENUE YEAR, arXiv NUMBER` (or one
of the two); `Trained:` and `Unseen classes:` begin a sentence each.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[1] / "trainers"
PAPER = re.compile(
    r"(?:(?P<venue>[A-Z]\w+ 20\d\d), )?arXiv (?P<arxiv>\d{4}\.\d{5})|(?P<alone>[A-Z]\w+ 20\d\d)\."
)


class Facts(NamedTuple):
    """Of one file; `trainers` are the names that it registers, `year` sorts the papers."""

    name: str
    what: str
    venue: str
    arxiv: str
    trained: str
    unseen: str
    trainers: tuple[str, ...]
    year: str

    @property
    def paper(self) -> str:
        """Venue and a link, in Markdown."""
        link = f"[arXiv {self.arxiv}](https://arxiv.org/abs/{self.arxiv})" if self.arxiv else ""
        return ", ".join(filter(None, (self.venue, link)))


def all_facts() -> list[Facts]:
    """Of every method, in the order of the papers."""
    return sorted(map(read, FOLDER.glob("[!_]*.py")), key=lambda facts: (facts.year, facts.name))


def read(file: Path) -> Facts:
    """The facts of a file; ValueError for a docstring that lacks one."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    title, _, rest = (ast.get_docstring(tree) or "").partition("\n")
    name, _, what = title.partition(": ")
    paper = PAPER.search(rest)
    if not what or not paper:
        raise ValueError(
            f"{file}: its docstring must begin 'Name: what it does.' and name a paper, as in "
            "'CVPR 2025, arXiv 2503.08497.'"
        )
    venue, arxiv = paper["venue"] or paper["alone"] or "", paper["arxiv"] or ""
    when = arxiv or f"{venue[-2:]}06"
    names = tuple(c.name for c in tree.body if isinstance(c, ast.ClassDef) if _is_registered(c))
    trained, unseen = (_sentence(rest, word) for word in ("Trained", "Unseen classes"))
    return Facts(name, what.rstrip("."), venue, arxiv, trained, unseen, names, when)


def _is_registered(node: ast.ClassDef) -> bool:
    return any("TRAINER_REGISTRY" in ast.unparse(decorator) for decorator in node.decorator_list)


def _sentence(text: str, word: str) -> str:
    """What stands behind `word:` up to the end of the sentence or paragraph; empty if nothing."""
    found = re.search(rf"{word}: (.+?)(?:\.\s|\n\n|\.?$)", text, re.DOTALL)
    return " ".join(found[1].split()) if found else ""
