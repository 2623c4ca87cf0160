"""Where a run can go on: the newest of its checkpoints and snapshots that is sound."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dassl.utils.checkpoints import load_intact, resume_candidates

from .snapshots import find_snapshots


class Progress(NamedTuple):
    """A state of a run that was read from files.

    path: a file it was read from, for messages; `files` names them all.
    epochs, steps: epochs done, and steps done of the next.
    models: for each model state_dict, optimizer and scheduler.
    state: what the run needs beside them, see `run_state`.
    """

    path: Path
    files: str
    epochs: int
    steps: int
    models: dict[str, dict[str, Any]]
    state: dict[str, Any]


def has_progress(directory: Path, names: list[str]) -> bool:
    """Say whether there is something to go on from, sound or not."""
    folders = [directory / name for name in names]
    return bool(find_snapshots(directory) or (names and resume_candidates(folders)))


def find_progress(directory: Path, names: list[str]) -> Progress | None:
    """Return the state with most done; what is damaged is reported and passed over."""
    if not names:
        return None
    finished = next(_checkpoints(directory, names), None)
    least = (finished.epochs, 0) if finished else (0, 0)
    for place, path in find_snapshots(directory):
        if place < least:
            break
        state = _load(path)
        if state is not None and set(names) <= set(state.get("models", ())):
            return Progress(path, str(path), *place, state["models"], state)
    return finished


def _checkpoints(directory: Path, names: list[str]) -> Iterator[Progress]:
    """Yield what the models' newest checkpoints hold, all of one epoch, best first."""
    for file in resume_candidates([directory / name for name in names]):
        paths = {name: directory / name / file for name in names}
        found = {name: state for name, path in paths.items() if (state := _load(path)) is not None}
        epochs = {state.get("epoch") for state in found.values()}
        if len(found) == len(names) and len(epochs) == 1:
            files = ", ".join(str(path) for path in paths.values())
            first = found[names[0]]
            yield Progress(paths[names[0]], files, int(first.get("epoch", 0)), 0, found, first)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        return load_intact(path)
    except ValueError as error:
        print(f"*** {error}. It is passed over: the run goes on from the one before it ***")
        return None
