"""What is reported on."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tools.report.results import PROTOCOLS
from tools.report.selection import Choice
from tools.results import Measure, Run


@dataclass(frozen=True)
class Task:
    """What to report on: the runs below `root`, and how."""

    root: Path
    runs: list[Run]
    measure: Measure
    choice: Choice

    def path(self, run: Run) -> str:
        """A run's path below the root."""
        return run.path.name if run.path == self.root else str(run.path.relative_to(self.root))

    def trees(self) -> dict[tuple[str, Path], list[Run]]:
        """The runs of every tree, by (protocol, tree)."""
        placed = [run for run in self.runs if run.protocol]
        placed.sort(key=lambda run: (list(PROTOCOLS).index(run.protocol), str(run.tree)))
        return {
            place: list(members)
            for place, members in groupby(placed, key=lambda run: (run.protocol, run.tree))
        }

    def title(self, protocol: str, tree: Path) -> str:
        """The protocol's name, and the tree where there are several of that protocol."""
        several = sum(other == protocol for other, _ in self.trees()) > 1
        return f"{PROTOCOLS[protocol]}: {tree}" if several else PROTOCOLS[protocol]
