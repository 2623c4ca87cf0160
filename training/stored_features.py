"""Image features of the frozen CLIP, from the store or computed and put there.

What does not change between seeds, shots and methods is computed once: a test's features for every
method whose image side is the frozen CLIP, the training images' for methods that are fitted to
them. The numbers are those that would be computed, bit for bit on a CPU.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data.data_manager import DatasetWrapper, build_data_loader
from frozen_clip.feature_store import FeatureStore, directory_for
from training.adaptive_batch import MOST_ON_CPU

GB = 10**9


class FeatureDataset(DatasetWrapper):
    """A list of images as a loader hands it out, with features (E) under `img`."""

    def __init__(self, features: Tensor, cfg: CfgNode, items: Any, **_: Any):
        super().__init__(cfg, items)
        self.features = features

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        told = {"label": item.label, "domain": item.domain, "impath": item.impath}
        return {"img": self.features[idx], "index": int(idx), **told}


def features_of(trainer: Any, loader: Any, view: list[Any] | None = None) -> Tensor:
    """The features (N, E), float32, of a sequential loader's images, in its order, on the CPU.

    `view` names a pass with random views, which no two such passes share.
    """
    store, description = _store(trainer), describe(trainer, loader, view)
    kept = store.read(description) if store and description else None
    trainer.features_were_stored = kept is not None
    if kept is not None:
        return kept
    with torch.no_grad():
        images = (trainer.parse_batch_test(batch)[0] for batch in _batches(loader))
        features = torch.cat([trainer.frozen_features(each).cpu() for each in images])
    if store and description:
        store.write(description, features)
    return features


def _batches(loader: Any) -> Iterator[Any]:
    """The batches of a loader; a signal that ends the run does so between two of them."""
    stop: Callable[[], None] | None = None
    with suppress(ImportError):  # upstream's engine has no such thing
        from dassl.utils.stopping import stop_if_requested as stop
    for batch in tqdm(loader, desc="image features", leave=False, disable=None):
        if stop:
            stop()
        yield batch


@contextmanager
def evaluation_by_features(trainer: Any, split: str) -> Iterator[None]:
    """Let a test of a split read features in place of images, where that gives the same numbers."""
    name = "val_loader" if split == "val" and trainer.val_loader is not None else "test_loader"
    loader = getattr(trainer, name)
    if not (trainer.method.reads_features and _store(trainer) and describe(trainer, loader)):
        yield
        return
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    features = features_of(trainer, loader)
    items = loader.dataset.data_source
    setattr(
        trainer,
        name,
        build_data_loader(
            cfg,
            data_source=items,
            batch_size=loader.batch_size,
            is_train=False,
            dataset_wrapper=lambda *given, **more: FeatureDataset(features, *given),
        ),
    )
    try:
        yield
    finally:
        setattr(trainer, name, loader)


def describe(trainer: Any, loader: Any, view: list[Any] | None = None) -> dict[str, Any] | None:
    """What determines the features; None where that is not known, as of a plugin's own loader."""
    cfg, clip = trainer.cfg, trainer.clip
    dataset = getattr(loader, "dataset", None)
    sequential = view is not None or cfg.DATALOADER.TEST.SAMPLER == "SequentialSampler"
    if type(dataset) is not DatasetWrapper or not sequential or not clip.loaded.sha256:
        return None
    transform = str(dataset.transform)
    if " at 0x" in transform:  # a function, which says nothing of what it does
        return None
    return {
        "version": 1,
        "dataset": cfg.DATASET.NAME,
        "clip": clip.name,
        "origin": clip.origin,
        "weights": str(clip.dtype),
        "computed": str(trainer.precision.computed),
        "device": trainer.device.type,
        "torch": torch.__version__,
        "part": _part(trainer.device.type, loader.batch_size),
        "transform": transform,
        "images": len(dataset),
        "upright": cfg.INPUT.EXIF_ORIENTATION,
        "files": _files_hash(cfg.DATASET.ROOT, [item.impath for item in dataset.data_source]),
        "view": view,
    }


def _store(trainer: Any) -> FeatureStore | None:
    """The config's store; None if it is off, or several processes share the images."""
    node = trainer.cfg.get("FEATURES")  # another train.py has none
    if node is None or node.STORE == "off" or _in_several_processes():
        return None
    root = trainer.cfg.DATASET.ROOT
    directory = directory_for(Path(root) if root and not trainer.cfg.DATASET.PATH else None)
    return FeatureStore(directory, int(node.MAX_GB * GB))


def _part(device: str, batch: int) -> int | None:
    """How many images are computed at once, where rounding depends on it: not only a batch's size,
    so that methods of several sizes share features."""
    if device != "cpu":
        return None
    return MOST_ON_CPU if batch % MOST_ON_CPU == 0 else batch


def _in_several_processes() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _files_hash(root: str, paths: list[str]) -> str:
    """A hash of the files' names below `root`, their sizes and times of change."""
    digest = hashlib.sha256()
    for path in paths:
        status, name = os.stat(path), os.path.relpath(path, root or None)
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
