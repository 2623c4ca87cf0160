"""Reads YAML files that may come from anyone: config files, and what a run has left of its own."""

from pathlib import Path
from typing import NoReturn

import yaml

MOST_BYTES = 1 << 20
MOST_LEVELS = 50
MOST_VALUES = 100_000  # after aliases are written out: a few lines can stand for billions


def read_yaml(file: Path) -> dict:
    """A mapping of plain data; nothing is run. An empty file is an empty mapping.

    ValueError that names the file for one that is no YAML, holds something else, sets a key
    twice, or is larger than any settings are.
    """
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file} is larger than any file of settings: is it the right one?")
    try:
        tree = _tree(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        remedy = "use spaces, not tabs" if r"'\t'" in str(error) else "correct it there"
        raise ValueError(f"{file} is not valid YAML: {error}; {remedy}") from error
    if not isinstance(tree, dict):
        raise ValueError(
            f"{file} must hold keys and values, as in 'OPTIM: {{LR: 0.01}}', but holds a "
            f"{type(tree).__name__}"
        )
    return tree


def _tree(text: str) -> object:
    try:
        return _checked(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:  # read by the slow one, whose message shows the line
        return _checked(text, yaml.SafeLoader)


def _checked(text: str, kind: type) -> object:
    """What the text holds; its nesting is checked before anything that recurses reads it."""
    levels = 0
    for event in yaml.parse(text, Loader=kind):
        levels += isinstance(event, yaml.CollectionStartEvent)
        levels -= isinstance(event, yaml.CollectionEndEvent)
        if levels > MOST_LEVELS:
            line = event.start_mark.line + 1
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
    seen = {}
    for key in keys:
        if not isinstance(key, yaml.ScalarNode):
            _refuse(key, "a key that is no word")
        if key.value in seen:
            first = seen[key.value].start_mark.line + 1
            _refuse(key, f"the key {key.value!r} a second time, first in line {first}")
        seen[key.value] = key


def _refuse(node: yaml.Node, what: str) -> NoReturn:
    raise ValueError(f"line {node.start_mark.line + 1} has {what}")
