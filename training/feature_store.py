"""Image features of a frozen CLIP, kept on disk: computed once for everything that asks again.

A file holds the features of one list of images. What determines them (weights, precision, how
images are prepared, the files with size and time of change) is its description, and the hash of
that its name; its contents are checked against a checksum whenever they are read.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from common.atomic import atomic_write

ENDING = ".features"
Description = dict[str, Any]


class Entry(NamedTuple):
    """A file of a store; `description` is empty where the file cannot be read."""

    path: Path
    size: int
    used: float  # seconds since the epoch
    description: Description


class FeatureStore:
    """The files in one directory, of `most` bytes in all: the ones unused for longest go."""

    def __init__(self, directory: Path, most: int):
        self.directory, self.most = directory, most

    def read(self, description: Description) -> Tensor | None:
        """The features (N, E) of a description; None, and a line why, if they must be computed."""
        path = self._path(description)
        try:
            with safe_open(path, framework="pt") as file:
                said, features = file.metadata() or {}, file.get_tensor("features")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            return print(f"{path} cannot be read ({error}): its image features are computed again")
        if said.get("description") != _text(description) or said.get("sha256") != _hash(features):
            return print(f"{path} is damaged: its image features are computed again")
        with suppress(OSError):  # read-only: it looks unused
            os.utime(path)
        return features

    def write(self, description: Description, features: Tensor) -> None:
        """Keep features, if there is room; a line says why not."""
        if features.nbytes > self.most:
            return
        metadata = {"description": _text(description), "sha256": _hash(features)}
        path = self._path(description)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as draft:
                # not save_file, whose files only their owner may read: a data root is shared
                draft.write_bytes(save({"features": features.contiguous()}, metadata))
            self._make_room()
        except (OSError, SafetensorError) as error:
            print(f"Image features are not kept in {self.directory} ({error})")

    def entries(self) -> list[Entry]:
        """All files, the one used last first."""
        found = []
        for path in self.directory.glob(f"*{ENDING}"):
            with suppress(OSError):  # another run removed it
                status = path.stat()
                found.append(Entry(path, status.st_size, status.st_mtime, _description(path)))
        return sorted(found, key=lambda entry: -entry.used)

    def _make_room(self) -> None:
        total = 0
        for entry in self.entries():
            total += entry.size
            if total > self.most:
                entry.path.unlink(missing_ok=True)

    def _path(self, description: Description) -> Path:
        name = hashlib.sha256(_text(description).encode()).hexdigest()[:32]
        return self.directory / f"{name}{ENDING}"


def directory_for(root: Path | None) -> Path:
    """Where features of the datasets below `root` are kept: there, or else in the user's cache."""
    if root is not None and os.access(root, os.W_OK):
        return root / ".features"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mmrl" / "features"


def _text(description: Description) -> str:
    return json.dumps(description, sort_keys=True)


def _hash(features: Tensor) -> str:
    return hashlib.sha256(features.contiguous().view(torch.uint8).numpy().data).hexdigest()


def _description(path: Path) -> Description:
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["description"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return {}
