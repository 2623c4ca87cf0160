"""One file of weights -> tensors by name, and what the file says of itself. Runs no code in it."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frozen_clip.facts import Facts, Preprocessing, facts_in
from frozen_clip.hashes import file_hash

StateDict = dict[str, Tensor]
SAFETENSORS = ".safetensors"


class Weights(NamedTuple):
    """What was read, its tensors under OpenAI's names.

    facts: None if nothing there says them. sha256: `hash_of` all files, a config included
    expected: by the size's name what a config says of it, and the config's own word for it
    """

    state: StateDict
    facts: Facts | None
    sha256: str
    expected: dict[str, tuple[str, object]] = {}  # noqa: RUF012
    images: Preprocessing = Preprocessing()


def read_file(path: Path) -> Weights:
    """An archive of OpenAI's, a file of `torch.save`, or safetensors.

    Raises ValueError for anything else, and for a file that wants to run code.
    """
    try:
        digest = file_hash(path)
        openais = _is_openais(digest)
        facts = Facts("quick_gelu", None, "OpenAI's, by its SHA-256") if openais else None
        if _is_safetensors(path):
            state, said = _read_safetensors(path)
        elif _is_torchscript(path):
            state, said = _read_torchscript(path, openais), {}
        else:
            state, said = _read_pickle(path)
        return Weights(state, facts or facts_in(said, str(path)), digest)
    except Exception as error:  # whatever a damaged file provokes
        reason = _what_else(path) or str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path} could not be read as CLIP weights ({reason:.400}). Allowed are OpenAI's .pt "
            "archives, files of torch.save with tensors by name, and .safetensors; if it was "
            "downloaded, delete it and start again"
        ) from error


def _what_else(path: Path) -> str | None:
    """What else than weights the file is, where the engine can tell."""
    if _is_safetensors(path):
        return None
    try:
        from dassl.utils import what_it_is
    except ImportError:  # upstream's engine
        return None
    what = what_it_is(path)
    return what and f"it is {what}"


def hash_of(paths: Sequence[Path]) -> str:
    """SHA-256 of a file; of several, that of theirs."""
    hashes = [file_hash(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _is_openais(digest: str) -> bool:
    from frozen_clip.openai import clip

    return any(f"/{digest}/" in url for url in clip._MODELS.values())


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        return path.suffix == SAFETENSORS or file.read(10)[8:] == b'{"'


def _read_safetensors(path: Path) -> tuple[StateDict, dict[str, object]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as content:
        state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        return state, dict(content.metadata() or {})


def _read_pickle(path: Path) -> tuple[StateDict, dict[str, object]]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError(f"it does not hold tensors by name, but a {type(content).__name__}")
    state = content.get("state_dict", content)
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ValueError("it does not hold tensors by name")
    return state, content if state is not content else {}


def _read_torchscript(path: Path, openais: bool) -> StateDict:
    """Loading such an archive can run code that is in it: only OpenAI's are."""
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
    """The shipped model: half-precision arrays, word vectors only for the ids it knows."""
    with np.load(path, allow_pickle=False) as arrays:
        state = {key: torch.from_numpy(arrays[key]).float() for key in arrays.files}
    ids = state.pop("token_embedding.ids").long()
    rows = state.pop("token_embedding.rows")
    vocabulary = torch.zeros(int(state.pop("vocab_size")), rows.shape[1])
    state["token_embedding.weight"] = vocabulary.index_copy(0, ids, rows)
    facts = Facts("quick_gelu", None, "this repository")
    return Weights(state, facts, file_hash(path)), ids
