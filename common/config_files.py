"""Config files that build on others: `_BASE_: FILE` or a list of files, as in detectron2.

A path is relative to the file that names it. Of a list, later files win; the file itself wins over
all of them.
"""

import os
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

from common.safe_yaml import read_as_written, read_yaml

BASE = "_BASE_"
MOST_FILES = 100  # that one file builds on, each as often as it is named

Tree = dict[str, Any]
Reader = Callable[[Path], Tree]


def read_config(file: Path, read: Reader = read_yaml) -> Tree:
    """What a file and its bases say together; errors are those of `config_layers`."""
    return reduce(_merged, (tree for _, tree in config_layers(file, read)), {})


def config_layers(file: Path, read: Reader = read_as_written) -> list[tuple[Path, Tree]]:
    """Each file that counts and what it says itself; later ones win, and `file` is the last.

    Raises FileNotFoundError or ValueError that names the chain of files for a base that is not
    there, for a circle, and for one that is no YAML.
    """
    layers: list[tuple[Path, Tree]] = []
    for layer in _layers(file, (), read):
        layers.append(layer)
        if len(layers) > MOST_FILES:
            raise ValueError(f"{file} builds on more than {MOST_FILES} files by {BASE}; merge some")
    return layers


def _layers(file: Path, above: tuple[Path, ...], read: Reader) -> Iterator[tuple[Path, Tree]]:
    chain = (*above, file)
    if not file.is_file():
        raise FileNotFoundError(_missing(file, above))
    if file.resolve() in [other.resolve() for other in above]:
        raise ValueError(f"{BASE} goes in a circle: {_arrows(chain)}; take it out of one of them")
    tree = read(file)
    bases = tree.pop(BASE, [])
    for base in [bases] if isinstance(bases, str) else bases or []:
        if not isinstance(bases, str | list) or not isinstance(base, str):
            raise ValueError(
                f"{BASE} in {file} must be a path or a list of paths, not {base!r:.80}"
            )
        yield from _layers((file.parent / os.path.expanduser(base)).resolve(), chain, read)
    yield file, tree


def _missing(file: Path, above: tuple[Path, ...]) -> str:
    folder = file if file.is_dir() else file.parent
    near = sorted(f.name for f in folder.glob("*.yaml"))
    there = f"choose from those in {folder}: {', '.join(near)}" if near else "give a YAML file"
    named = f" ({BASE}: {_arrows((*above, file))})" if above else ""
    return f"there is no config file {file}{named}; {there}"


def _arrows(chain: tuple[Path, ...]) -> str:
    return " -> ".join(map(str, chain))


def _merged(below: Tree, above: Tree) -> Tree:
    """Both mappings in one; `above` wins, key by key in what is nested."""
    both = dict(below)
    for key, value in above.items():
        deeper = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = _merged(both[key], value) if deeper else value
    return both
