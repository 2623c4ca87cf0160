"""What the start of a log says about its run: the arguments and the config that were printed."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_HEAD = 1 << 15  # bytes
_CONFIG = "** Config **"
_LOAD_EPOCH = re.compile(r"^load_epoch: ([0-9]{1,9})\s*$", re.MULTILINE)
_ENTRY = re.compile(r"((?:  )*)([A-Za-z0-9_]+):(?: (.*)|)")


class Head(NamedTuple):
    """`settings`: the config as flat keys, `A.B.C`, and its values as they were printed."""

    settings: dict[str, str]
    load_epoch: int | None = None


def read_head(path: Path) -> Head:
    """The arguments and the config at the log's start, as far as they are there."""
    try:
        with open(path, "rb") as file:
            content = file.read(_HEAD)
    except OSError:
        return Head({})
    text = content.decode("utf-8", errors="replace")
    arguments, _, config = text.partition(_CONFIG)
    epoch = _LOAD_EPOCH.search(arguments)
    lines = config.splitlines()
    whole = lines[:-1] if len(content) == _HEAD else lines  # the last one may be cut
    return Head(_settings(whole), int(epoch[1]) if epoch else None)


def setting_text(value: object) -> str:
    """A value as text, in which a list is no other than a tuple."""
    text = str(value)
    return text[1:-1].removesuffix(",") if text[:1] + text[-1:] in ("()", "[]") else text


def _settings(lines: Iterable[str]) -> dict[str, str]:
    """Of the first lines that are keys, indented by two spaces a level."""
    settings: dict[str, str] = {}
    path: list[str] = []
    for line in lines:
        match = _ENTRY.fullmatch(line.rstrip("\r"))
        if match is None and path:
            break
        if match:
            path = [*path[: len(match[1]) // 2], match[2]]
            if match[3] is not None:
                settings[".".join(path)] = setting_text(match[3].strip())
    return settings
