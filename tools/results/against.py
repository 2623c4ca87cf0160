"""Differences to one method, paired by data set and seed."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tools.results.cells import Cell, hm_cell, restricted, together
from tools.results.grids import HALVES, HM, Grid


@dataclass(frozen=True)
class Differences(Grid):
    """A grid whose methods, behind the reference, are differences to it: `CoOp - MMRL`.

    Only seeds that both have count, on each data set; the difference of HMs is that of the HMs of
    these seeds, and an average is the difference of the two averages.
    """

    reference: str = ""
    pairs: dict[str, tuple[str, Grid]] = field(default_factory=dict)  # the method, and both grids

    def is_difference(self, method: str) -> bool:
        return method in self.pairs

    def average(self, method: str, part: str, over: Sequence[str]) -> Cell:
        if method not in self.pairs:
            return super().average(method, part, over)
        own, pair = self.pairs[method]
        averages = [pair.average(name, part, over) for name in (own, self.reference)]
        return replace(_difference(*averages), over=tuple(over))


def find_method(grids: Sequence[Grid], name: str) -> list[str | None]:
    """The label of the method `name`, a trainer or a label, in every grid; None where it is not.

    Raises ValueError when it is nowhere, or several methods of one grid go by that name.
    """
    labels = [_find(grid, name) for grid in grids]
    if not any(labels):
        names = sorted({method for grid in grids for method in grid.methods})
        close = difflib.get_close_matches(name, names, 1, 0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"--against: there are no runs of '{name}', only of {_list(names)}{hint}")
    return labels


def _find(grid: Grid, name: str) -> str | None:
    if name in grid.methods:
        return name
    found = [m for m in grid.methods if grid.about[m].trainer.lower() == name.lower()]
    if len(found) > 1:
        raise ValueError(
            f"--against: '{name}' was run in several variants in {grid.tree}; "
            f"choose one of {_list(found)}"
        )
    return found[0] if found else None


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" if " " in name else name for name in names)


def differences(grid: Grid, reference: str) -> Differences:
    """The same comparison, with `reference` first and every other method as a difference to it."""
    pairs = {
        f"{method} - {reference}": (method, _pair(grid, method, reference))
        for method in grid.methods
        if method != reference
    }
    cells = {
        (name, reference, part): grid.cell(name, reference, part)
        for name in grid.datasets
        for part in grid.parts
    }
    for label, (method, pair) in pairs.items():
        for name in grid.datasets:
            for part in grid.parts:
                own, other = pair.cell(name, method, part), pair.cell(name, reference, part)
                cells[name, label, part] = _difference(own, other)
    return Differences(
        **{
            **vars(grid),
            "methods": (reference, *pairs),
            "cells": cells,
            "about": {reference: grid.about[reference]}
            | {label: grid.about[method] for label, (method, _) in pairs.items()},
            "notes": (*grid.notes, f"differences to {reference} are over the seeds both have"),
        },
        reference=reference,
        pairs=pairs,
    )


def _pair(grid: Grid, method: str, reference: str) -> Grid:
    """The two methods with those seeds only that both have."""
    cells = {}
    for name in grid.datasets:
        for part in grid.parts:
            if part == HM:
                continue
            both = [grid.cell(name, label, part) for label in (method, reference)]
            seeds = [seed for seed in both[0].values if seed in both[1].values]
            due = set(both[0].due) & set(both[1].due)
            for label, cell in zip((method, reference), both, strict=True):
                cells[name, label, part] = restricted(cell, seeds, due)
        for label in (method, reference) if HM in grid.parts else ():
            cells[name, label, HM] = hm_cell(*(cells[name, label, half] for half in HALVES))
    return replace(grid, methods=(method, reference), cells=cells)


def _difference(own: Cell, other: Cell) -> Cell:
    for cell in (own, other):
        if cell.mean is None:
            return Cell(cell.state, due=cell.due)
    values = {s: value - other.values[s] for s, value in own.values.items() if s in other.values}
    state = "complete" if own.complete and other.complete else "partial"
    return Cell(state, own.mean - other.mean, values, own.due, unlike=together(own, other))
