"""What of a folder of one's own is not read, in words: nobody should wonder where images went."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection

from ._listing import IMAGE_SUFFIXES, NO_CLASSES, class_folders, is_image

NO_FILES = {"thumbs.db", "desktop.ini"}  # what Windows leaves beside images


def left_out(folder: str, classes: Collection[str]) -> list[str]:
    """Sentences on what is in a folder of class folders and is no image of a class."""
    made = [name for name in sorted(NO_CLASSES) if _holds_something(os.path.join(folder, name))]
    kinds: Counter[str] = Counter()
    nested: Counter[str] = Counter()
    for name in classes:
        kinds += other_files(os.path.join(folder, name))
        nested += nested_images(folder, name)
    said = [f"{', '.join(made)}: left out, not a class"] if made else []
    if nested:
        said.append(f"not read, since they are in folders of class folders: {_shown(nested)}")
    if kinds:
        said.append(f"not read: {_shown(kinds)} (read are {' '.join(IMAGE_SUFFIXES)})")
    return said


def why_empty(folder: str, name: str) -> str:
    """Why the class folder `name` of `folder` has no image, and what to do."""
    path = os.path.join(folder, name)
    nested, kinds = nested_images(folder, name), other_files(path)
    if nested:
        return (
            f"{path} holds no images itself, and class folders must: move them up, or make these "
            f"the class folders ({_shown(nested)})"
        )
    has = f"{_shown(kinds)}: convert them to one of" if kinds else "put some in, or take it out:"
    return f"{path} holds no images; {'it has ' if kinds else ''}{has} {' '.join(IMAGE_SUFFIXES)}"


def other_files(folder: str) -> Counter[str]:
    """Suffix -> how many visible files in a folder have it and are no images."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    others = [n for n in names if n[0] != "." and n.lower() not in NO_FILES and not is_image(n)]
    return Counter(os.path.splitext(name)[1].lower() or "without suffix" for name in others)


def nested_images(folder: str, name: str) -> Counter[str]:
    """Folder in the class folder `name` -> how many images are in it, or below it."""
    found: Counter[str] = Counter()
    for inner in class_folders(os.path.join(folder, name)):
        for _, _, files in os.walk(os.path.join(folder, name, inner)):
            found[f"{name}/{inner}/"] += sum(map(is_image, files))
    return +found


def _holds_something(folder: str) -> bool:
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False


def _shown(counts: Counter[str]) -> str:
    shown = [f"{count} {what}" for what, count in counts.most_common(4)]
    return ", ".join(shown) + (", .." if len(counts) > 4 else "")
