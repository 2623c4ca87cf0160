"""Figures as files of their own."""

import re
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from tools.report.svg import standalone


class PlotFiles:
    """Writes figures into a folder; without one does nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.written: list[Path] = []
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, draw: Callable[[], Figure]) -> None:
        """Draw and write <name>.svg, whatever the name holds; a second one gets a number."""
        if self.folder is None:
            return
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[-150:] or "figure"
        path, number = self.folder / f"{stem}.svg", 1
        while path in self.written:
            number += 1
            path = self.folder / f"{stem}_{number}.svg"
        path.write_text(standalone(draw()), encoding="utf-8")
        self.written.append(path)
