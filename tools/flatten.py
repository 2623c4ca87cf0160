"""Write a config file as one that needs no other: without `_BASE_`, as plain yacs reads it.

python -m tools.flatten configs/trainers/MMRL/vit_b16.yaml > vit_b16.yaml
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from common.config_files import read_config
from run.command import Parser, guarded, path, piped


def flattened(file: Path) -> str:
    """What a file and those that it builds on say together, as YAML."""
    return yaml.safe_dump(read_config(file), sort_keys=False, allow_unicode=True)


def main(argv: Sequence[str] | None = None) -> int:
    """0 when done, 2 for a file that cannot be read."""
    parser = Parser(prog="python -m tools.flatten", description=__doc__)
    parser.add_argument("file", type=path, help="YAML file of a trainer or data set")
    args = parser.parse_args(argv)
    return guarded(lambda: print(flattened(args.file), end=""), args)


if __name__ == "__main__":
    sys.exit(piped(main))
