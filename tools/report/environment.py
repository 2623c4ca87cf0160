"""With what the runs were made, and where they differ in it."""

from collections.abc import Iterable, Mapping
from typing import Any

from tools.report.elements import Cell, Table, name_cell, text_cell

Record = Mapping[str, Any]


def environment_table(records: Iterable[tuple[str, Record]]) -> Table:
    """A row per key: its values, each with its number of runs. `records`: (run, record)."""
    values: dict[str, dict[str, list[str]]] = {}
    for run, record in records:
        for key, value in _environment(record).items():
            values.setdefault(key, {}).setdefault(value, []).append(run)
    return Table("", ["what", "value"], [_row(key, found) for key, found in values.items()])


def differing(table: Table) -> list[str]:
    """The keys of an environment table that are not the same in all runs."""
    return [row[0].text for row in table.rows if row[1].kind == "differs"]


def _environment(record: Record) -> dict[str, str]:
    versions = record.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    named = {key: record.get(key) for key in ("commit", "device", "backbone")}
    return {
        key: "not recorded" if value is None else str(value)
        for key, value in (named | {str(name): v for name, v in versions.items()}).items()
    }


def _row(key: str, found: dict[str, list[str]]) -> list[Cell]:
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    if len(ordered) == 1:
        return [name_cell(key), text_cell(ordered[0][0])]
    text = "; ".join(f"{value} ({len(runs):,} runs)" for value, runs in ordered)
    hint = f"{ordered[-1][0]}: {', '.join(ordered[-1][1][:3])}"
    return [name_cell(key), Cell(text, text, "differs", hint)]
