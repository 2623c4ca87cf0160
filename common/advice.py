"""Commands that messages give, so that following them loses nothing."""

from __future__ import annotations

import os
import shlex


def move_aside(path: str | os.PathLike[str]) -> str:
    """The command that gives a file or folder a name which is still free."""
    return f"mv {shlex.quote(str(path))} {shlex.quote(free_name(path))}"


def free_name(path: str | os.PathLike[str]) -> str:
    """The path with .old, or with .old2, .old3, .. where that exists."""
    name, number = f"{path}.old", 1
    while os.path.lexists(name):
        number += 1
        name = f"{path}.old{number}"
    return name
