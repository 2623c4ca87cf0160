"""Punctuation of word processors, web pages and other alphabets, where plain one is meant."""

from __future__ import annotations

from common.text_files import SPACES

FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
PLAIN = (
    FULL_WIDTH
    | SPACES
    | str.maketrans("“”„‟″«»‘’‚‛′–−", '"' * 7 + "'" * 5 + "--")
    | str.maketrans("﹕∶、，", "::,,")
)
QUOTES = "“”„‟«»‘’‚‛＂＇"


def instead(text: str) -> str:
    """What to write for the first such character; empty where there is none."""
    for letter in text:
        if ord(letter) in PLAIN:
            plain = letter.translate(PLAIN)
            return f"it has {letter!r} (U+{ord(letter):04X}), use a plain {plain!r}"
    return ""
