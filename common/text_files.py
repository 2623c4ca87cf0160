"""Text files that people wrote with any editor on any system, as text."""

from __future__ import annotations

import codecs
import os
import re
import shlex
from itertools import pairwise

from common.advice import free_name

MOST_BYTES = 1 << 26  # larger than any list, and far larger than any file of settings
LOOKED_AT = 4096  # bytes that a guess is made from
MARKS = {  # byte order marks
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
SPACES = str.maketrans(dict.fromkeys("\u00a0\u2007\u202f\u3000", " "))


def read_text(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> str:
    """The text of a file, whatever its byte order mark and its line ends; lines end with \\n.

    ValueError for one that is larger than `most_bytes`, and as `decode`.
    """
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(
            f"{path} is larger than any file of its kind ({most_bytes >> 20} MiB): is it the "
            "right one? Get it again"
        )
    return decode(content, path)


def decode(content: bytes, name: str | os.PathLike[str]) -> str:
    """Bytes of the file `name`, in UTF-8 or UTF-16, as text; lines end with \\n.

    ValueError that says where it is something else, what it probably is, and how to convert it.
    """
    mark, encoding = next(
        ((mark, kind) for mark, kind in MARKS.items() if content.startswith(mark)),
        (b"", _unmarked(content)),
    )
    body = content[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(_advice(content, error.start + len(mark), encoding, name)) from error
    if "\0" in text:
        raise ValueError(
            f"{name} is no text: it holds zero bytes. Is it the right file? Save it as UTF-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def plain_spaces(text: str) -> str:
    """No-break and wide spaces, as web pages and other alphabets have them, as plain ones."""
    return text.translate(SPACES)


def _unmarked(content: bytes) -> str:
    """UTF-16 where a quarter of all letters or more has a zero byte, always the same of the two."""
    if b"\0" not in content or len(content) % 2:
        return "utf-8"
    even, odd = content[::2].count(0), content[1::2].count(0)
    if (even and odd) or max(even, odd) * 8 < len(content):
        return "utf-8"
    return "utf-16-be" if even else "utf-16-le"


def _advice(content: bytes, place: int, encoding: str, name: str | os.PathLike[str]) -> str:
    if encoding != "utf-8":
        return f"{name} is damaged: byte {place} is no {encoding.upper()}. Get it again"
    line = content[:place].count(b"\n") + 1
    likely = likely_encoding(content, place)
    file, kept = shlex.quote(str(name)), shlex.quote(free_name(name))
    return (
        f"{name} is not UTF-8: byte {place}, in line {line}, is 0x{content[place]:02x}. It is "
        f"probably {likely}; convert it:\n"
        f"  mv {file} {kept} && iconv -f {likely} -t UTF-8 {kept} > {file}"
    )


def likely_encoding(content: bytes, place: int = 0) -> str:
    """A guess for bytes that are not UTF-8 from `place` on, as `iconv` names it."""
    high = [byte > 0x7F for byte in content[place : place + LOOKED_AT]]
    pairs = sum(a and b for a, b in pairwise(high))
    # letters of two such bytes each, and more of them than two accents side by side
    if sum(high) >= 4 and pairs * 2 >= sum(high) and _is(content, "gbk"):
        return "GBK"
    return "CP1252" if re.search(rb"[\x80-\x9f]", content) else "LATIN1"


def _is(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
