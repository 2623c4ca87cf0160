"""python -m tools.sweep"""

import sys

from run.command import piped
from tools.sweep.cli import main

if __name__ == "__main__":
    sys.exit(piped(main))
