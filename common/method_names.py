"""Names of methods as people and papers write them: `Tip-Adapter-F`, `MMRL++`, `2SFS`."""

from collections.abc import Iterable

OTHER_NAMES = {
    "mmrlplusplus": "mmrlplus",
    "mma": "multimodaladapter",
    "2sfs": "twostage",
    "zsclip": "zeroshotclip",
}


def plain(name: str) -> str:
    """A name without capitals and punctuation; one for all names of a method."""
    letters = "".join(c for c in name.lower().replace("+", "plus") if c.isalnum())
    return OTHER_NAMES.get(letters, letters)


def find(name: str, known: Iterable[str]) -> str | None:
    """The one of the known names that is meant; None if there is none."""
    known = list(known)
    if name in known:
        return name
    return next((each for each in known if plain(each) == plain(name)), None)
