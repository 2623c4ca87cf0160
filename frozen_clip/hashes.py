"""SHA-256 of files, read once as long as they are the same."""

import hashlib
import os
from functools import lru_cache


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content; OSError if it cannot be read."""
    stat = os.stat(path)
    return _hash(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
