"""The small CLIP's size, and its weights file.

The file is a numpy archive of float16 arrays under the names of OpenAI's state dict. Of
`token_embedding.weight` only the rows of used tokens are kept: `token_embedding.ids` (int32),
`token_embedding.rows` (float16) and `vocab_size`; the rows of other tokens are zeros.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from clip.model import CLIP

from common.atomic import atomic_write
from frozen_clip.weights.load import SMALL_FILE

WEIGHTS = SMALL_FILE
VOCAB_SIZE = 49408  # of OpenAI's tokenizer
IMAGE_SIZE = 32
EMBEDDING = "token_embedding.weight"


def build(vocab_size: int = VOCAB_SIZE) -> CLIP:
    """An untrained small CLIP, drawn from torch's global generator."""
    return CLIP(
        embed_dim=128,
        image_resolution=IMAGE_SIZE,
        vision_layers=4,
        vision_width=128,
        vision_patch_size=4,
        context_length=77,
        vocab_size=vocab_size,
        transformer_width=128,
        transformer_heads=2,
        transformer_layers=3,
    )


def save(state: dict[str, torch.Tensor], ids: np.ndarray, path: Path) -> None:
    """Write a state dict whose token embedding holds only the rows of `ids`, in that order."""
    arrays: dict[str, Any] = {
        name: value.detach().numpy().astype(np.float16) for name, value in state.items()
    }
    rows = arrays.pop(EMBEDDING)
    assert rows.shape[0] == len(ids), "one embedding row per kept token"
    arrays |= {
        "token_embedding.ids": ids.astype(np.int32),
        "token_embedding.rows": rows,
        "vocab_size": np.array(VOCAB_SIZE, np.int32),
    }
    with atomic_write(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path = WEIGHTS) -> CLIP:
    """The small CLIP in eval mode, float32. FileNotFoundError if it was never trained."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: run python -m tools.small_clip.pretrain")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    ids, rows = arrays.pop("token_embedding.ids"), arrays.pop("token_embedding.rows")
    embedding = np.zeros((int(arrays.pop("vocab_size")), rows.shape[1]), dtype=np.float32)
    embedding[ids] = rows
    state = {name: torch.from_numpy(value.astype(np.float32)) for name, value in arrays.items()}
    model = build(len(embedding))
    model.load_state_dict(state | {EMBEDDING: torch.from_numpy(embedding)})
    return model.eval()
