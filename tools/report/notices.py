"""What makes the tables less than they seem: said at the top of the page."""

from collections.abc import Sequence
from pathlib import Path

from tools.report.page import Notice
from tools.report.settings import Settings, uneven
from tools.report.task import Task
from tools.results import Grid
from tools.results.tables import unlike_lines


def notices(
    task: Task,
    settings: dict[Path, Settings],
    environment: list[str],
    damaged: list[str],
    grids: Sequence[Grid] = (),
) -> list[Notice]:
    """environment: its parts that differ. damaged: files that could not be read."""
    lines = dict.fromkeys(line for grid in grids for line in unlike_lines(grid, grid.parts))
    open_runs = [f"{task.path(r)}: {r.state}, {r.reason}" for r in task.runs if not r.complete]
    homeless = [
        task.path(run) + (f": {run.astray}" if run.astray else "")
        for run in task.runs
        if not run.protocol
    ]
    notes = [f"{task.path(run)}: {note}" for run in task.runs for note in run.notes]
    found = [
        (open_runs, "{} not complete; nothing of them is averaged"),
        (homeless, "{} outside of every protocol's folders and in no table of results"),
        (list(lines), "{} why numbers are marked ‡"),
        (notes, "{} with files that contradict each other or are damaged"),
        (_unlike_pictures(task), "{} compared, but trained on different pictures (few_shot_hash)"),
        (_unlike_seeds(task, settings), "{} whose seeds were run with different settings"),
        (damaged, "{} that could not be read"),
        (environment, "{} of the environment not the same in all runs"),
    ]
    things = ["run", "run", "reason", "note", "group", "experiment", "file", "part"]
    return [
        Notice(text.format(f"{len(items):,} {thing}{'s' if len(items) != 1 else ''}"), items)
        for (items, text), thing in zip(found, things, strict=True)
        if items
    ]


def _unlike_pictures(task: Task) -> list[str]:
    """Runs of the same data set, shots and seed whose few-shot lists differ."""
    hashes: dict[tuple, dict[str, list[str]]] = {}
    for run in task.runs:
        if run.protocol and (few_shot := run.record.get("few_shot_hash")):
            place = (run.tree, run.split or "", run.dataset, run.shots, run.seed)
            hashes.setdefault(place, {}).setdefault(str(few_shot), []).append(str(run.trainer))
    return [
        f"{dataset}, {shots} shots, seed {seed}: "
        + "; ".join(f"{', '.join(names)}: {few_shot[:12]}" for few_shot, names in found.items())
        for (_, _, dataset, shots, seed), found in hashes.items()
        if len(found) > 1
    ]


def _unlike_seeds(task: Task, settings: dict[Path, Settings]) -> list[str]:
    read = [(run, settings[run.path]) for run in task.runs if run.protocol and run.path in settings]
    found = uneven(read, lambda run: run.path.parent)
    return [f"{place.relative_to(task.root)}: {', '.join(keys)}" for place, keys in found.items()]
