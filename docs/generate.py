"""Make the parts of the docs that the code knows: the table of methods, pages of the site.

    python docs/generate.py     rewrites the table of methods in README.md

MkDocs loads this file as a hook (mkdocs.yml). Pages whose text stands elsewhere in the repository
are read from there; the API reference has one page per package, with all its public modules.
"""

import ast
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from tools.method_docs import all_facts  # noqa: E402

PAGES = {  # of the site: the file whose text it is
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "engine.md": "packages/dassl/README.md",
}
API = {  # the package of a page: its directory
    "frozen_clip": "frozen_clip",
    "trainers": "trainers",
    "training": "training",
    "datasets": "datasets",
    "run": "run",
    "tools.predict": "tools/predict",
    "tools.results": "tools/results",
    "dassl": "packages/dassl/src/dassl",
}
START, END = "<!-- methods: written by docs/generate.py -->\n", "<!-- end of methods -->"


def docstring(file: Path) -> str:
    """The docstring of a module, without importing it."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def methods_table() -> str:
    """A row for each file in trainers/, from its docstring, in the order of the papers."""
    head = "| method | `--trainer` | paper | what it does |\n|---|---|---|---|\n"
    rows = [
        f"| {facts.name} | {', '.join(map('`{}`'.format, facts.trainers))} | {facts.paper} "
        f"| {facts.what} |\n"
        for facts in all_facts()
    ]
    return head + "".join(rows)


def with_methods(readme: str) -> str:
    """The README with the table of methods of now."""
    before, _, rest = readme.partition(START)
    return f"{before}{START}{methods_table()}{END}{rest.partition(END)[2]}"


def site_links(text: str, base: str) -> str:
    """The text of a page with links to files of the repository, seen from `base`, as pages."""
    for page, file in (*PAGES.items(), ("license.md", "LICENSE")):
        text = text.replace(f"]({base}{file}", f"]({page}")
    return text


def site_text(file: str) -> str:
    """A file of the repository as a page of the site."""
    text = (REPO / file).read_text(encoding="utf-8")
    base = "../" * file.count("/")
    return site_links(text, base).replace(f"]({base}docs/", "](")


def modules(package: str) -> list[tuple[str, Path]]:
    """The public modules of a package, itself first, by dotted name."""
    root = REPO / API[package]
    found = []
    for file in sorted(root.rglob("*.py")):
        parts = [*file.relative_to(root).parts[:-1], file.stem]
        if parts[-1] == "__init__":
            parts.pop()
        if not any(part.startswith("_") for part in parts) and docstring(file):
            found.append((".".join([package, *parts]), file))
    return found


def api_page(package: str) -> str:
    """The API reference of a package: what each module is, then its contents."""
    found = modules(package)
    lines = [f"# {package}\n"]
    lines += [f"- [`{name}`][{name}]: {docstring(file).splitlines()[0]}" for name, file in found]
    return "\n".join([*lines, "", *(f"::: {name}" for name, _ in found), ""])


def on_config(config: Any) -> Any:
    """MkDocs has read mkdocs.yml: pages that its `nav` does not name come last in Reference."""
    named = (REPO / "mkdocs.yml").read_text(encoding="utf-8")
    others = [page.name for page in sorted((REPO / "docs").glob("*.md")) if page.name not in named]
    next(section for section in config.nav if "Reference" in section)["Reference"] += others
    return config


def on_files(files: Any, config: Any) -> Any:
    """MkDocs asks for the files of the site: add those that are made here."""
    from mkdocs.structure.files import File

    made = {page: site_text(source) for page, source in PAGES.items()}
    made |= {f"api/{package}.md": api_page(package) for package in API}
    made["license.md"] = "# License\n\n```text\n" + (REPO / "LICENSE").read_text() + "```\n"
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs asks for the text of a page: its links lead to pages."""
    return site_links(markdown, "../")


if __name__ == "__main__":
    readme = REPO / "README.md"
    readme.write_text(with_methods(readme.read_text(encoding="utf-8")), encoding="utf-8")
