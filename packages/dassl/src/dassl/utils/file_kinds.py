"""What a file is that is not what its name says, for the messages of all that could not be read."""

import os
import re
import zipfile

from .tools import StrPath

_HEAD = 4096  # bytes that are looked at
_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml|<!--)", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>\s*([^<]{1,200}?)\s*</title>", re.IGNORECASE)
_POINTER = b"version https://git-lfs"
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")
_TENSORS = ("data.pkl", "constants.pkl")  # in the zip archives of torch


def what_it_is(path: StrPath, archive: bool = False) -> str | None:
    """Say what a file is, and what to do; None where that cannot be told.

    It is asked when reading a file failed. What it returns goes on behind "<path> is".

    Args:
        archive: the file should be an archive.
    """
    if os.path.isdir(path):
        return "a directory, not a file: fetch the file again, and do not let it be unpacked"
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    packed = None if archive else _archive(path, head)
    other = _other(head.removeprefix(b"\xef\xbb\xbf"), os.fspath(path))
    return other or packed or _text(head)


def _other(head: bytes, path: str) -> str | None:
    if not head.strip(b"\0"):
        what = "begins with zeros, as an unfinished download does" if head else "is empty"
        return f"damaged, it {what}: fetch it again"
    if _PAGE.match(head):
        title = _TITLE.search(head)
        named = f" ({_line(title[1])!r})" if title else ""
        return f"a web page{named}, not the file: fetch it again, and see what the page says"
    if head.startswith(_POINTER):
        return "a Git LFS pointer, not the file: fetch that with 'git lfs pull'"
    if head[8:10] == b'{"' and head[4:8] == bytes(4) and not path.endswith(".safetensors"):
        return "a safetensors file: rename it to *.safetensors, and convert it to a checkpoint"
    return None


def _archive(path: StrPath, head: bytes) -> str | None:
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception:  # a damaged one can raise nearly anything
            return "damaged, its end is missing or broken: fetch it again"
        if any(name.endswith(_TENSORS) for name in names):
            return None
        return "a zip archive of other things: unpack it, and give the file that is in it"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it, and give the file that is in it"
    if head.startswith(_PACKED):
        return "compressed: unpack it, and give the file that is in it"
    return None


def _text(head: bytes) -> str | None:
    """What a server says in place of a file; old pickles are text too, and end with a full stop."""
    text = head.decode("utf-8", "replace").rstrip()
    if len(head) == _HEAD or text.endswith(".") or not "".join(text.split()).isprintable():
        return None
    return None if "\ufffd" in text else f"a text ({_line(head)!r}), not the file: fetch it again"


def _line(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())[:60]
