"""Bring a dataset into place: download, take what the user has, say what is left to do."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.text_files import read_text
from datasets._files import read_names, read_rows, words_of_folders
from datasets._splits import MOST_BYTES, parse_split_text
from tools.data.archive import ARCHIVE_SUFFIXES, find_by_end, is_archive, unpack
from tools.data.catalogue import Entry, Source

DOWNLOADS = ".downloads"  # in the dataset's directory, for files under way
RETRIES, TIMEOUT = 4, 60  # attempts after the first; seconds without a byte


class FetchError(OSError):
    """A file that could not be downloaded; the message says why, without advice."""


def download(entry: Entry, root: Path, given: Sequence[Path] = ()) -> list[str]:
    """Get what is missing of a dataset; `given` are files that the user has already.

    Returns what could not be had, one text per file, empty when all is in place. What is in
    place is left as it is. ValueError for a given file that does not fit.
    """
    folder = root / entry.folder
    folder.mkdir(parents=True, exist_ok=True)
    for file in given:
        take(entry, root, file)
    problems = []
    for source in entry.missing(root):
        try:
            get(entry, root, source)
        except (FetchError, ValueError) as error:
            problems.append(f"{source.file}: {error}")
    for place in (folder / DOWNLOADS, folder):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    return problems


def take(entry: Entry, root: Path, file: Path) -> None:
    """Put a file of the user's into place: one of the dataset's files, or an archive with some."""
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
    sources = [source] if source else entry.sources
    wanted = {k: v for s in sources for k, v in entry.places_missing(s, root).items()}
    placed = place(file, wanted, entry, root)
    if wanted and not placed:
        raise ValueError(f"--from {file}: none of {', '.join(wanted.values())} is in it")
    what = f"{', '.join(placed)} taken from {file}" if wanted else f"{file} was not needed"
    print(f"{entry.config}: {what}")


def get(entry: Entry, root: Path, source: Source) -> None:
    """Download one file and put it into place. FetchError, or ValueError for a bad archive."""
    if not source.web_page:
        raise FetchError("cannot be downloaded by this tool")
    target = root / entry.folder / DOWNLOADS / source.file
    print(f"{entry.config}: getting {source.file} from {source.web_page}", flush=True)
    if not target.exists():  # whole, but not unpacked yet: the last call was stopped then
        fetch(source, target)
    wanted = entry.places_missing(source, root)
    try:
        check_md5(target, source)
        placed = place(target, wanted, entry, root)
    except (FetchError, ValueError):
        target.unlink()  # damaged or hostile
        raise
    target.unlink()
    if set(placed) != set(wanted):
        raise FetchError(f"it lacks {', '.join(sorted(set(wanted) - set(placed)))}")
    print(f"{entry.config}: {', '.join(placed)} in place")


def fetch(source: Source, target: Path) -> None:
    """Download to `target`, which exists only when it is whole; resumes an earlier attempt."""
    import gdown  # late: the rest of the tool works without it

    target.parent.mkdir(parents=True, exist_ok=True)
    where = {"id": source.drive} if source.drive else {"url": source.url}
    if not source.md5:  # parts of two versions of a file could not be told apart
        drop_parts(target)
    try:
        gdown.download(**where, output=str(target), resume=True, retries=RETRIES, timeout=TIMEOUT)
    except Exception as error:  # gdown, requests and proxies each have their own errors
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        if "range" in reason or "416" in reason:  # the server does not continue what is there
            drop_parts(target)
            reason += "; the same command starts anew"
        raise FetchError(f"{'Google Drive' if source.drive else source.url}: {reason}") from error


def drop_parts(target: Path) -> None:
    """Delete what an earlier attempt to download left."""
    for part in target.parent.glob(f"{target.name}*.part"):
        part.unlink()


def check_md5(file: Path, source: Source) -> None:
    if not source.md5:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != source.md5:
        raise FetchError(
            f"{source.url}: MD5 is {digest.hexdigest()}, expected {source.md5}: damaged, or "
            "another version"
        )


# Into place


def place(file: Path, wanted: dict[str, str], entry: Entry, root: Path) -> list[str]:
    """Bring what is wanted of a file into the dataset's directory; returns the filled places.

    An archive is unpacked beside its goal first, so a place is filled wholly or not at all.
    """
    folder = root / entry.folder
    if not is_archive(file):
        for name in wanted:
            check_list(file, name, entry)
            draft = folder / f".{name}.tmp"
            shutil.copyfile(file, draft)
            draft.replace(folder / name)
        return list(wanted)
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=folder) as space:
        unpacked = Path(space, "all")
        unpack(file, unpacked)
        found = {k: _find(unpacked, end, file.stat().st_size) for k, end in wanted.items()}
        return [k for k, source in found.items() if source and _move(source, k, entry, folder)]


def _find(unpacked: Path, end: str, size: int) -> Path | None:
    """What is wanted, perhaps in an archive of its name; `size` of the outer one bounds it too."""
    if found := find_by_end(unpacked, end):
        return found
    packed = (find_by_end(unpacked, end + suffix) for suffix in ARCHIVE_SUFFIXES)
    inner = next(filter(None, packed), None)
    if inner is None:
        return None
    unpack(inner, inner.with_name(f"unpacked-{inner.name}"), size)
    return find_by_end(inner.with_name(f"unpacked-{inner.name}"), end)


def _move(source: Path, name: str, entry: Entry, folder: Path) -> bool:
    if source.is_file():
        check_list(source, name, entry)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    source.rename(folder / name)
    return True


def check_list(file: Path, name: str, entry: Entry) -> None:
    """ValueError for a list or split file that training, which finds it as `name`, cannot read."""
    try:
        if name.startswith("split_zhou_"):
            from tools.data.survey import loader  # late: it loads the engine

            images = f"{entry.folder}/{loader(entry).images}".rstrip("/")
            parse_split_text(read_text(file, MOST_BYTES), images)
        elif name == "classnames.txt":
            words_of_folders(str(file), read_rows(str(file), 2))
        elif name.endswith(".json"):
            read_names(str(file))
        elif name.endswith(".txt"):
            read_text(file)
    except ValueError as error:
        raise ValueError(
            f"{file} is no {name} that can be used; was it an error page? Get it again: {error}"
        ) from error


def advice(entry: Entry, root: Path, problems: Sequence[str]) -> str:
    """What to do by hand, on one screen."""
    missing = entry.missing(root)
    lines = [f"{entry.config} is not complete in {root / entry.folder}:"]
    lines += [f"  - {problem}" for problem in problems]
    if pages := [f"  {s.file}  {s.web_page}" for s in missing if s.web_page]:
        lines.append("Get these in a browser (Google Drive often refuses programs):")
        lines += pages
    lines += [line for line in entry.by_hand.splitlines() if line]
    command = f"download {entry.config} --root {shlex.quote(str(root))}"
    lines.append(f"Then: python -m tools.data {command} --from FILE [--from FILE ..]")
    if any(source.file.startswith("split_zhou") for source in missing):
        lines.append(
            "Without the published split file a split is made where the images allow it; "
            "its accuracies are then not comparable to the digit with published ones."
        )
    return "\n".join([*lines, "More: docs/DATASETS.md"])
