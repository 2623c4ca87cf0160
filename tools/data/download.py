"""Brings a data set into place: downloads, takes what the user has, says what is left to do."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.text_files import read_text
from datasets._annotations import read_names, read_rows, words_of_folders
from datasets._splits import MOST_BYTES, split_of
from tools.data.archive import ARCHIVE_SUFFIXES, find_by_end, is_archive, unpack
from tools.data.catalogue import Entry, Source
from tools.data.fetch import FetchError, fetch, fetch_drive

CLASSNAMES = "classnames.txt"
DOWNLOADS = ".downloads"  # under the data set's folder, for files under way


def download(entry: Entry, root: Path, given: Sequence[Path] = ()) -> list[str]:
    """Gets what is missing of a data set; `given` are files that the user has already.

    Returns what could not be got, one text per file, empty when all is in place. What is in
    place is left as it is. ValueError for a given file that does not fit.
    """
    (root / entry.folder).mkdir(parents=True, exist_ok=True)
    for file in given:
        take(entry, root, file)
    problems = []
    for source in entry.missing(root):
        try:
            get(entry, root, source)
        except (FetchError, ValueError) as error:
            problems.append(f"{source.file}: {error}")
    for folder in (root / entry.folder / DOWNLOADS, root / entry.folder):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return problems


def take(entry: Entry, root: Path, file: Path) -> None:
    """Puts a file of the user's into place: one of the set's files, or an archive with some."""
    if not file.is_file():
        raise ValueError(f"--from {file}: there is no such file")
    name = re.sub(r" ?\(\d+\)(?=\.)", "", file.name).lower()  # browsers add (1) to a second copy
    source = next((s for s in entry.sources if s.file.lower() == name), None)
    if source is None and not is_archive(file):
        raise ValueError(
            f"--from {file}: {entry.config} takes files named "
            f"{', '.join(s.file for s in entry.sources)}, or an archive "
            f"({' '.join(ARCHIVE_SUFFIXES)}) that holds what they bring; give one of these"
        )
    if source and source.by_hand:
        raise ValueError(f"--from {file}: this one takes more than unpacking.\n{entry.by_hand}")
    sources = [source] if source else list(entry.sources)
    wanted = {k: v for s in sources for k, v in entry.places_missing(s, root).items()}
    if not wanted:
        print(f"{entry.config}: {file} was not needed, what it brings is in place")
        return
    placed = place(file, wanted, entry, root)
    if not placed:
        raise ValueError(f"--from {file}: none of {', '.join(wanted.values())} is in it")
    print(f"{entry.config}: {', '.join(placed)} taken from {file}")


def get(entry: Entry, root: Path, source: Source) -> None:
    """Downloads one file and puts it into place. FetchError, or ValueError for a bad archive."""
    if not source.web_page:
        raise FetchError("cannot be downloaded by this tool")
    folder = root / entry.folder
    target = folder / DOWNLOADS / source.file
    print(f"{entry.config}: getting {source.file} from {source.web_page}", flush=True)
    if not target.exists():  # whole, but not unpacked yet: the last call was stopped then
        fetch_source(source, target)
    wanted = entry.places_missing(source, root)
    try:
        placed = place(target, wanted, entry, root)
    except ValueError:
        target.unlink()  # damaged or hostile
        raise
    target.unlink()
    if set(placed) != set(wanted):
        raise FetchError(f"it lacks {', '.join(sorted(set(wanted) - set(placed)))}")
    print(f"{entry.config}: {', '.join(placed)} in place")


def fetch_source(source: Source, target: Path) -> None:
    if source.drive:
        fetch_drive(source.drive, target, source.md5)
    else:
        fetch(source.url, target, source.md5)


def place(file: Path, wanted: dict[str, str], entry: Entry, root: Path) -> list[str]:
    """Brings what is wanted of a file into the set's folder; returns the places that were filled.

    An archive is unpacked beside its goal first, so a place is filled wholly or not at all.
    """
    folder = root / entry.folder
    if not is_archive(file):
        return _copy(file, wanted, entry, folder)
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=folder) as space:
        unpacked = Path(space, "all")
        unpack(file, unpacked)
        size = file.stat().st_size
        return [k for k, end in wanted.items() if _move(unpacked, end, k, entry, folder, size)]


def _copy(file: Path, wanted: dict[str, str], entry: Entry, folder: Path) -> list[str]:
    for name in wanted:
        check_list(file, name, entry)
        draft = folder / f".{name}.tmp"
        shutil.copyfile(file, draft)
        draft.replace(folder / name)
    return list(wanted)


def check_list(file: Path, name: str, entry: Entry) -> None:
    """ValueError for a list or split file that training, which finds it as `name`, cannot read."""
    try:
        if name.startswith("split_zhou_"):
            from tools.data.survey import loader  # late: it loads the engine

            folder = f"{entry.folder}/{loader(entry).images}".rstrip("/")
            split_of(read_text(file, MOST_BYTES), folder)
        elif name == CLASSNAMES:
            words_of_folders(str(file), read_rows(str(file), 2))
        elif name.endswith(".json"):
            read_names(str(file))
        elif name.endswith(".txt"):
            read_text(file)
    except ValueError as error:
        raise ValueError(
            f"{file} is no {name} that can be used; was it an error page? Get it again: {error}"
        ) from error


def _move(unpacked: Path, end: str, name: str, entry: Entry, folder: Path, size: int) -> bool:
    found = find_by_end(unpacked, end) or _find_packed_again(unpacked, end, size)
    if found is None:
        return False
    if found.is_file():
        check_list(found, name, entry)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    found.rename(folder / name)
    return True


def _find_packed_again(unpacked: Path, end: str, size: int) -> Path | None:
    """Some archives hold archives: unpacks the one that is named like what is wanted.

    `size` of the outer one bounds it too: a bomb in a bomb is not larger than one.
    """
    for suffix in ARCHIVE_SUFFIXES:
        inner = find_by_end(unpacked, f"{end}{suffix}")
        if inner:
            unpack(inner, inner.with_name("unpacked-" + inner.name), size)
            return find_by_end(inner.with_name("unpacked-" + inner.name), end)
    return None


# ---------------------------------------------------------------- advice


def advice(entry: Entry, root: Path, problems: Sequence[str]) -> str:
    """What to do by hand, on one screen."""
    lines = [f"{entry.config} is not complete in {root / entry.folder}:"]
    lines += [f"  - {problem}" for problem in problems]
    pages = [s for s in entry.missing(root) if s.web_page]
    if pages:
        lines.append(
            "Get these in a browser (Google Drive often refuses programs), or from anyone:"
        )
        lines += [f"  {source.file}  {source.web_page}" for source in pages]
    lines += [line for line in entry.by_hand.splitlines() if line]
    lines += [
        "Then: python -m tools.data download "
        f"{entry.config} --root {shlex.quote(str(root))} --from FILE [--from FILE ..]",
    ]
    if any(source.file.startswith("split_zhou") for source in entry.missing(root)):
        lines.append(
            "Without the published split file a split is made where the images allow it; "
            "its accuracies are then not comparable to the digit with published ones."
        )
    return "\n".join([*lines, "More: docs/DATASETS.md"])
