"""One file of weights -> tensors by name, and the properties it states. Runs no code in it."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frozen_clip.properties import Properties, properties_in

StateDict = dict[str, Tensor]


class Weights(NamedTuple):
    """Tensors by name, their properties if the file states them, the file's SHA-256."""

    state: StateDict
    properties: Properties | None
    sha256: str


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, computed once while size and time stay; OSError if it is unreadable."""
    stat = os.stat(path)
    return _hash(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_of(paths: Sequence[Path]) -> str:
    """SHA-256 of one file; of several, that of their hashes."""
    hashes = [file_hash(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def read_file(path: Path) -> Weights:
    """Read an archive of OpenAI's, a file of `torch.save`, or safetensors.

    Raises ValueError for anything else, and for a file that wants to run code.
    """
    try:
        digest = file_hash(path)
        openais = _is_openais(digest)
        if _is_safetensors(path):
            state, content = _read_safetensors(path)
        elif _is_torchscript(path):
            state, content = _read_torchscript(path, openais), {}
        else:
            state, content = _read_pickle(path)
        known = Properties("quick_gelu", None, "OpenAI's, by its SHA-256") if openais else None
        return Weights(state, known or properties_in(content, str(path)), digest)
    except Exception as error:  # whatever a damaged file provokes
        reason = _what_else(path) or str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path} could not be read as CLIP weights ({reason:.400}). Allowed are OpenAI's .pt "
            "archives, files of torch.save with tensors by name, and .safetensors; if it was "
            "downloaded, delete it and start again"
        ) from error


def _what_else(path: Path) -> str | None:
    """What the file is instead of weights, where the engine can tell."""
    if _is_safetensors(path):
        return None
    try:
        from dassl.utils import what_it_is
    except ImportError:  # upstream's engine
        return None
    what = what_it_is(path)
    return what and f"it is {what}"


def _is_openais(digest: str) -> bool:
    from frozen_clip.openai import clip

    return any(f"/{digest}/" in url for url in clip._MODELS.values())


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        return path.suffix == ".safetensors" or file.read(10)[8:] == b'{"'


def _read_safetensors(path: Path) -> tuple[StateDict, dict[str, object]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as content:
        state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        return state, dict(content.metadata() or {})


def _read_pickle(path: Path) -> tuple[StateDict, dict[str, object]]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ValueError("it does not hold tensors by name")
    return state, content if state is not content else {}


def _read_torchscript(path: Path, openais: bool) -> StateDict:
    """Loading such an archive can run code that is in it: only OpenAI's are loaded."""
    if not openais:
        raise ValueError(
            "it is a TorchScript archive, which may run code, and by its SHA-256 not one of "
            "OpenAI's; save its state dict with torch.save"
        )
    with warnings.catch_warnings():  # recent torch deprecates the whole format
        warnings.simplefilter("ignore")
        state: StateDict = torch.jit.load(str(path), map_location="cpu").state_dict()
    return state


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > 2 * path.stat().st_size:
            raise ValueError("it would unpack to far more than it is")
        return any(entry.endswith("constants.pkl") for entry in archive.namelist())


def read_small(path: Path) -> tuple[Weights, Tensor]:
    """The shipped model, whose arrays are float16, and the ids that it has word vectors for."""
    with np.load(path, allow_pickle=False) as arrays:
        state = {key: torch.from_numpy(arrays[key]).float() for key in arrays.files}
    ids = state.pop("token_embedding.ids").long()
    rows = state.pop("token_embedding.rows")
    vocabulary = torch.zeros(int(state.pop("vocab_size")), rows.shape[1])
    state["token_embedding.weight"] = vocabulary.index_copy(0, ids, rows)
    return Weights(state, Properties("quick_gelu", None, "this repository"), file_hash(path)), ids
