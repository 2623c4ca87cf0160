"""The command of tools/results: tables of the results below a directory; see --help."""

import sys

from run.command import piped
from tools.results.cli import main

if __name__ == "__main__":
    sys.exit(piped(main))
