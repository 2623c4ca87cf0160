"""Reads YAML files that may come from anyone: config files, and what a run has left of its own."""

import re
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml

from common.punctuation import instead
from common.text_files import SPACES, plain_spaces, read_text

MOST_BYTES = 1 << 20
MOST_LEVELS = 50
MOST_VALUES = 100_000  # after aliases are written out: a few lines can stand for billions
_SPACE = f"[ {''.join(map(chr, SPACES))}]"
_LINE_START = re.compile(rf"^{_SPACE}*(?:[\w.]+:{_SPACE}+)?", re.MULTILINE)
_SLOW: Any = yaml.SafeLoader
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Plain(str):
    """A value without quotes, as it is written: what it means depends on the key."""

    line: int | None = None  # of a file


def _plain(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    if node.style:  # quoted, or a block: a text for certain
        return str(node.value)
    value = Plain(node.value.strip())  # of no-break spaces; there are no others
    value.line = node.start_mark.line + 1
    return value


class _AsWritten:
    """Mixed into a loader: of what is written without quotes nothing is a number, date or null."""

    yaml_implicit_resolvers: ClassVar = {
        "<": _SLOW.yaml_implicit_resolvers["<"]
    }  # a key that merges
    yaml_constructors: ClassVar = {**_SLOW.yaml_constructors, "tag:yaml.org,2002:str": _plain}


class _SlowAsWritten(_AsWritten, _SLOW): ...  # type: ignore[misc]


class _FastAsWritten(_AsWritten, _FAST): ...  # type: ignore[misc]


def read_yaml(file: Path) -> dict[str, Any]:
    """A mapping of plain data; nothing is run. An empty file is an empty mapping.

    ValueError that names the file for one that is no YAML, holds something else, sets a key
    twice, or is larger than any settings are.
    """
    return _read(file, _FAST, _SLOW)


def read_as_written(file: Path) -> dict[str, Any]:
    """As `read_yaml`, but with `Plain` for all that is written without quotes."""
    return _read(file, _FastAsWritten, _SlowAsWritten)


def _read(file: Path, fast: Any, slow: Any) -> dict[str, Any]:
    text = _LINE_START.sub(lambda start: plain_spaces(start[0]), read_text(file, MOST_BYTES))
    try:
        tree = _tree(text, fast, slow)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file} is not valid YAML: {error}; {_remedy(error, text)}") from error
    if not isinstance(tree, dict):
        raise ValueError(
            f"{file} must hold keys and values, as in 'OPTIM: {{LR: 0.01}}', but holds a "
            f"{type(tree).__name__}"
        )
    return tree


def _remedy(error: Exception, text: str) -> str:
    if r"'\t'" in str(error):
        return "use spaces, not tabs"
    mark = getattr(error, "problem_mark", None)
    near = text.split("\n")[max(mark.line - 1, 0) : mark.line + 1] if mark else []
    return instead("".join(line.partition("#")[0] for line in near)) or "correct it there"


def _tree(text: str, fast: Any, slow: Any) -> object:
    try:
        return _checked(text, fast)
    except yaml.YAMLError:  # read by the slow one, whose message shows the line
        return _checked(text, slow)


def _checked(text: str, kind: Any) -> object:
    """What the text holds; its nesting is checked before anything that recurses reads it."""
    levels = 0
    for event in yaml.parse(text, Loader=kind):
        levels += isinstance(event, yaml.CollectionStartEvent)
        levels -= isinstance(event, yaml.CollectionEndEvent)
        if levels > MOST_LEVELS:
            line = event.start_mark.line + 1  # type: ignore[union-attr]
            raise ValueError(f"line {line} is more than {MOST_LEVELS} levels deep")
    loader = kind(text)
    node = loader.get_single_node()
    if node is None:
        return {}
    _check_node(node, {})
    return loader.construct_document(node)


def _check_node(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values that a node stands for; `known` has those of nodes seen before."""
    if id(node) in known:
        return known[id(node)] or _refuse(node, "a value that holds itself")
    known[id(node)] = 0  # still open
    parts = [] if isinstance(node, yaml.ScalarNode) else node.value
    if isinstance(node, yaml.MappingNode):
        _check_keys([key for key, _ in parts])
        parts = [value for _, value in parts]
    known[id(node)] = 1 + sum(_check_node(part, known) for part in parts)
    if known[id(node)] > MOST_VALUES:
        _refuse(node, f"aliases that stand for more than {MOST_VALUES:,} values")
    return known[id(node)]


def _check_keys(keys: list[yaml.Node]) -> None:
    seen: dict[str, yaml.Node] = {}
    for key in keys:
        if not isinstance(key, yaml.ScalarNode):
            _refuse(key, "a key that is no word")
        if key.value in seen:
            first = seen[key.value].start_mark.line + 1
            _refuse(key, f"the key {key.value!r} a second time, first in line {first}")
        seen[key.value] = key


def _refuse(node: yaml.Node, what: str) -> NoReturn:
    raise ValueError(f"line {node.start_mark.line + 1} has {what}")
