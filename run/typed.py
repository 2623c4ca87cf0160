"""A value of a config key in the type that the key has: one rule for YAML files and commands."""

import ast
import re
from types import NoneType
from typing import Any

from common.punctuation import QUOTES, instead
from common.safe_yaml import Plain

KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list",
    list: "a list",
    NoneType: "a value",
}
NOTHING = ("", "~", "null", "Null", "NULL", "None")
NO_TEXT = (*NOTHING, "True", "true", "TRUE", "False", "false", "FALSE")  # without quotes
YES_NO = {  # as YAML has them, in all ways to write them
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
SPECIAL = re.compile(r"([-+]?)\.?(inf|nan)", re.IGNORECASE)  # YAML has a point, Python none
WORD_LIST = re.compile(r"\[([\w.-]+(?:, *[\w.-]+)*)\]")
NOT_READ = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)


def typed(value: object, default: object, loose: bool = False) -> Any:
    """`value`, as it was written, in the type of `default`; ValueError where it is none.

    A `loose` key takes a text where True or False is its default, and the other way around.
    """
    kind = type(default)
    try:
        return _text(value) if kind is str else _number_or_list(value, kind)
    except NOT_READ as error:
        found = value if not isinstance(value, str) else guess(Plain(value))
        if loose and kind is str and isinstance(found, bool):
            return found
        if loose and kind is bool and isinstance(found, str):
            return _text(value)
        raise ValueError(_why(value, default)) from error


def guess(value: object) -> object:
    """What plain words mean by themselves, also in lists: number, True, False, nothing or text."""
    if isinstance(value, list):
        return [guess(item) for item in value]
    if not isinstance(value, Plain):
        return value
    if value in NOTHING:
        return None
    if special := SPECIAL.fullmatch(value):
        return float("".join(special.groups()))
    if value.lower() in ("true", "false"):
        return YES_NO[value.lower()]
    try:
        found = ast.literal_eval(value)
    except NOT_READ:
        if words := WORD_LIST.fullmatch(value):  # without quotes, as YAML has them
            return [guess(Plain(word.strip())) for word in words[1].split(",")]
        return str(value)
    return found if isinstance(found, int | float | list | tuple) else str(value)


def _text(value: object) -> str:
    """A text as it is written; not what its writer takes for none, or for one in quotes."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise TypeError("no text")
    if isinstance(value, Plain) and (value in NO_TEXT or {value[0], value[-1]} <= set(QUOTES)):
        raise ValueError("no text")
    return str(value)


def _number_or_list(value: object, kind: type) -> object:
    found = guess(Plain(value) if isinstance(value, str) else value)
    if kind is bool and isinstance(found, str):
        found = YES_NO.get(found.lower(), found)
    if kind is float and type(found) is int:
        found = float(found)
    if kind in (list, tuple) and isinstance(found, list | tuple):
        found = kind(found)
    if kind is not NoneType and type(found) is not kind:
        raise TypeError(f"not {kind}")
    return found


def _why(value: object, default: object) -> str:
    """What it must be instead, and how that is written."""
    kind = type(default)
    words = f"it must be {KINDS.get(kind, kind.__name__)}"
    if default not in ("", (), [], None):
        words += f", as in {default!r}"
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    if odd := instead(text):
        return f"{words}; {odd}"
    if kind is str and getattr(value, "line", None):
        return f"{words}; to be taken as one it stands in quotes: {str(value)!r}"
    return words
