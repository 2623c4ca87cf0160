"""What of a folder of one's own is not read, in words: nobody should wonder where images went."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection

from ._listing import IMAGE_SUFFIXES, NO_CLASSES, is_image

NO_FILES = {"thumbs.db", "desktop.ini"}  # what Windows leaves beside images


def left_out(folder: str, classes: Collection[str]) -> list[str]:
    """Sentences on what is in a folder of class folders and is no image of a class."""
    made = [name for name in sorted(NO_CLASSES) if _holds_something(os.path.join(folder, name))]
    kinds: Counter[str] = Counter()
    nested: Counter[str] = Counter()
    for name in classes:
        files, images = beside_images(folder, name)
        kinds += files
        nested += images
    said = [f"{', '.join(made)}: left out, not a class"] if made else []
    if nested:
        said.append(f"not read, since they are in folders of class folders: {_shown(nested)}")
    if kinds:
        said.append(f"not read: {_shown(kinds)} (read are {' '.join(IMAGE_SUFFIXES)})")
    return said


def why_empty(folder: str, name: str) -> str:
    """Why the class folder `name` of `folder` has no image, and what to do."""
    path = os.path.join(folder, name)
    files, nested = beside_images(folder, name)
    if nested:
        return (
            f"{path} holds no images itself, and class folders must: move them up, or make these "
            f"the class folders ({_shown(nested)})"
        )
    what = f"it has {_shown(files)}: convert them to one of" if files else "put some in:"
    return f"{path} holds no images; {what} {' '.join(IMAGE_SUFFIXES)}"


def beside_images(folder: str, name: str) -> tuple[Counter[str], Counter[str]]:
    """What a class folder has beside its images, hidden files and what systems make.

    Suffix -> number of files that are no images, and folder in it -> number of images below.
    """
    with os.scandir(os.path.join(folder, name)) as entries:
        others = [entry for entry in entries if entry.name[0] != "." and not is_image(entry.name)]
    files = [e.name for e in others if e.is_file() and e.name.lower() not in NO_FILES]
    kinds = Counter(os.path.splitext(file)[1].lower() or "without suffix" for file in files)
    folders = [e for e in others if e.is_dir() and e.name not in NO_CLASSES]
    return kinds, +Counter({f"{name}/{e.name}/": images_below(e.path) for e in folders})


def images_below(folder: str) -> int:
    return sum(is_image(file) for _, _, files in os.walk(folder) for file in files)


def _holds_something(folder: str) -> bool:
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False


def _shown(counts: Counter[str]) -> str:
    """The four most; of equal ones the first by name. Names need not be UTF-8 here."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count} {what}" for what, count in most[:4])
    return shown.encode(errors="backslashreplace").decode() + (", .." if len(most) > 4 else "")
