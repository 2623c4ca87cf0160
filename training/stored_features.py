"""Image features of the frozen CLIP, from the store or computed and put there.

What does not change between seeds, shots and methods is computed once: a test's features for every
method whose image side is the frozen CLIP, the training images' for methods that are fitted to
them. The numbers are those that would be computed, bit for bit on a CPU.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data.data_manager import DatasetWrapper, build_data_loader
from training.adaptive_batch import MOST_ON_CPU
from training.feature_store import FeatureStore, directory_for

GB = 10**9
FIRST_VIEW = 10_000  # of those that are trained on: others than a cache is made of


class FeatureDataset(DatasetWrapper):
    """A list of images as a loader hands it out, with features (E) under `img`.

    views: the features (N, E) of each view; epoch: by turns, they are those of the epochs
    """

    def __init__(self, views: list[Tensor], cfg: CfgNode, items: Any):
        super().__init__(cfg, items)
        self.views, self.epoch = views, 0

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item, features = self.data_source[idx], self.views[self.epoch % len(self.views)]
        told = {"label": item.label, "domain": item.domain, "impath": item.impath}
        return {"img": features[idx], "index": int(idx), **told}


def feature_loader(cfg: CfgNode, views: list[Tensor], items: Any, **how: Any) -> Any:
    """A loader of features; it draws nothing from the global generators."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.K_TRANSFORMS = 1
    with torch.random.fork_rng(devices=[]):
        return build_data_loader(
            cfg,
            data_source=items,
            dataset_wrapper=lambda cfg, items, **_: FeatureDataset(views, cfg, items),
            **how,
        )


def features_of(
    trainer: Any, loader: Any, view: list[Any] | None = None, keep: bool = True
) -> Tensor:
    """The features (N, E), float32, of a sequential loader's images, in its order, on the CPU.

    `view` names a pass with random views, which no two such passes share; `keep`: the store may
    have them.
    """
    store = _store(trainer) if keep else None
    description = describe(trainer, loader, view) if store else None
    return _kept_or_computed(trainer, loader, store, description)


def _kept_or_computed(
    trainer: Any, loader: Any, store: FeatureStore | None, description: dict[str, Any] | None
) -> Tensor:
    kept = store.read(description) if store and description else None
    trainer.features_were_stored = kept is not None
    if kept is not None:
        return kept
    with torch.no_grad():
        images = (trainer.parse_batch_test(batch)[0] for batch in _batches(loader))
        features = torch.cat([trainer.frozen_features(each).cpu() for each in images])
    if store and description and features.isfinite().all():
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
    store = _store(trainer) if trainer.method.reads_features() else None
    description = describe(trainer, loader) if store else None
    if not description:
        yield
        return
    items, how = loader.dataset.data_source, {"batch_size": loader.batch_size, "is_train": False}
    views = [_kept_or_computed(trainer, loader, store, description)]
    setattr(trainer, name, feature_loader(trainer.cfg, views, items, **how))
    try:
        yield
    finally:
        setattr(trainer, name, loader)


def train_by_features(trainer: Any, count: int) -> None:
    """Let training read features of `count` random views of each image, one view an epoch by turns.

    They are the same in every run of one seed. As many views as epochs are what training on images
    draws, with other random numbers; fewer are another, cheaper protocol.
    """
    from dassl.data.seeding import loader_seed, set_loader_seed  # ours alone
    from training.feature_fit import image_features

    node, items = trainer.cfg.DATALOADER.TRAIN_X, trainer.dm.dataset.train_x
    print(f"Image features of {len(items)} training images, {count} views of each")
    numbers = range(FIRST_VIEW, FIRST_VIEW + count)
    views = [image_features(trainer, items, view).f.cpu() for view in numbers]
    how = {"sampler_type": node.SAMPLER, "batch_size": node.BATCH_SIZE, "is_train": True}
    how |= {"n_domain": node.N_DOMAIN, "n_ins": node.N_INS}
    loader = feature_loader(trainer.cfg, views, items, **how)
    set_loader_seed(loader, loader_seed(trainer.train_loader_x))
    trainer.train_loader_x = loader


def describe(trainer: Any, loader: Any, view: list[Any] | None = None) -> dict[str, Any] | None:
    """What determines the features; None where that is not known, as of a plugin's own loader."""
    cfg, clip = trainer.cfg, trainer.clip
    dataset = getattr(loader, "dataset", None)
    sequential = view is not None or cfg.DATALOADER.TEST.SAMPLER == "SequentialSampler"
    if type(dataset) is not DatasetWrapper or not sequential or not clip.loaded.sha256:
        return None
    if not trainer.has_plain("parse_batch_test", "frozen_features"):
        return None
    transform = str(dataset.transform)
    if " at 0x" in transform:  # a function, which says nothing of what it does
        return None
    return {
        "version": 1,
        "dataset": cfg.DATASET.NAME,
        "clip": clip.name,
        "origin": clip.origin,
        "visual": _weights_hash(clip.clip.visual),
        "weights": str(clip.dtype),
        "computed": str(trainer.precision.computed),
        "device": trainer.device.type,
        "torch": torch.__version__,
        "images by": [import_module(name).__version__ for name in ("PIL", "torchvision")],
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


def _weights_hash(visual: Any) -> str:
    """A hash of the weights that compute: a plugin may have changed those of the file."""
    digest = hashlib.sha256()
    for name, tensor in visual.state_dict().items():
        whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}.get(tensor.element_size())
        bits = tensor.detach().contiguous().view(whole) if whole else tensor
        digest.update(f"{name} {tuple(tensor.shape)} {bits.sum(dtype=torch.int64)}\n".encode())
    return digest.hexdigest()


def _in_several_processes() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _files_hash(root: str, paths: list[str]) -> str:
    """A hash of the files' names below `root`, their sizes and times of change."""
    digest = hashlib.sha256()
    for path in paths:
        status, name = os.stat(path), os.path.relpath(path, root or None)
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
