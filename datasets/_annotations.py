"""Reads lists and names that come with data sets."""

from __future__ import annotations

import json
from collections.abc import Iterable

from common.text_files import read_text


def read_lines(path: str) -> list[str]:
    """The lines of a list, without spaces around them; ValueError for a file that is no text."""
    return [line.strip() for line in read_text(path).split("\n")]


def read_rows(path: str, fields: int) -> list[tuple[int, list[str]]]:
    """Each line's number, and the line cut into `fields` fields, the last taking what remains.

    Empty lines are left out; ValueError for one with fewer fields.
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        row = line.split(None, fields - 1)
        if row and len(row) < fields:
            raise ValueError(f"{path}, line {number}: expected {fields} fields: {line!r:.80}")
        rows += [(number, row)] if row else []
    return rows


def read_names(path: str) -> dict[str, str]:
    """A JSON object of texts; ValueError for a file that is not one."""
    text = read_text(path)
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); get it again") from error
    if not isinstance(names, dict) or not all(type(name) is str for name in names.values()):
        raise ValueError(f"{path} must hold an object of names; get it again")
    return names


def words_of_folders(path: str, rows: Iterable[tuple[int, list[str]]]) -> dict[str, str]:
    """Class folder -> words, of a list's rows; ValueError for a folder that is named twice."""
    words: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, (folder, name) in rows:
        if folder in lines:
            raise ValueError(
                f"{path}, line {line}: the class folder {folder!r} was named in line "
                f"{lines[folder]} already; leave one of the two lines"
            )
        words[folder], lines[folder] = name, line
    return words
