"""Nested settings as flat keys."""

from collections.abc import Iterator


def flatten(tree: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of nested mappings as ('A.B.C', value)."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
