"""Class features kept in a run's directory, while everything they come from is the same."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from yacs.config import CfgNode

import frozen_clip
import trainers
import training
from common.atomic import atomic_write
from frozen_clip import FrozenCLIP
from frozen_clip.finite import is_finite
from run.machine import device_name
from run.record import versions
from tools.predict.runs import Run

FOLDER = "text_features"
MOST_FILES = 16  # of different names, templates or precisions; the oldest goes


class TextCache:
    """The class features of one run for one list of names.

    The file's name is a hash of the learner, CLIP's text tower, names, template, config, device,
    package versions and our own code: what no longer fits is not found.
    """

    def __init__(
        self,
        run: Run,
        cfg: CfgNode,
        device: torch.device,
        clip: FrozenCLIP,
        learner: dict[str, Tensor],
    ):
        digest = hashlib.sha256()
        sentences = [run.template, cfg.DATASET.TEMPLATE, cfg.DATASET.NAME]
        facts = [run.classes, *sentences, cfg.TRAINER.dump()]
        facts += [clip.origin, run.trainer.__name__, device_name(device), device.type, versions()]
        digest.update(json.dumps(facts).encode())
        tower = {k: t for k, t in clip.clip.state_dict().items() if not k.startswith("visual.")}
        for part in (*_sources(), *_bytes(tower), *_bytes(learner)):
            digest.update(part)
        self.key = digest.hexdigest()
        self.file = run.folder / FOLDER / f"{self.key[:32]}.safetensors"

    def read(self) -> Tensor | None:
        """w (C, E) in float32; None if it was not kept, or is damaged."""
        if not self.file.is_file():
            return None
        try:
            with safe_open(self.file, framework="pt") as content:
                whole = (content.metadata() or {}).get("key") == self.key
                w = content.get_tensor("w") if whole else None
                return w if w is None or is_finite(w) else None
        except (SafetensorError, OSError):
            return None

    def write(self, w: Tensor) -> None:
        """Keep w (C, E), if the run's directory can be written to."""
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(exist_ok=True)
            content = save({"w": w.float().cpu().contiguous()}, metadata={"key": self.key})
            with atomic_write(self.file) as draft:
                draft.write_bytes(content)
            kept = sorted(self.file.parent.glob("*.safetensors"), key=os.path.getmtime)
            for old in kept[:-MOST_FILES]:
                old.unlink()


def _bytes(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    for name, tensor in sorted(tensors.items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _sources() -> Iterator[bytes]:
    """The code that makes the features."""
    for package in (frozen_clip, training, trainers):
        for file in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            yield file.read_bytes()
