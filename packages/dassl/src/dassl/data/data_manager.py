"""The data set of a configuration, and its loaders."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from yacs.config import CfgNode

from dassl.utils import read_image, tolist_if_not

from .datasets import DatasetBase, Datum, build_dataset
from .samplers import build_sampler
from .seeding import SeededFetching, SeededSampler, draw_seed
from .transforms import INTERPOLATION_MODES, build_transform

Transform = Callable[[Any], Any]


class DatasetWrapper(SeededFetching, Dataset[dict[str, Any]]):
    """Images of a list as dicts: img, label, domain, impath, index.

    With DATALOADER.K_TRANSFORMS above 1 (training only), or with several transforms, there are
    also img2, img3...; with RETURN_IMG0 also img0, the image without augmentation. A subclass
    need only bring its own `__getitem__`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Datum],
        transform: Transform | Sequence[Transform] | None = None,
        is_train: bool = False,
    ) -> None:
        """
        Args:
            transform: from PIL image to tensor; None: images stay PIL.

        Raises:
            ValueError: several views are wanted, but there is no transform to make them.
        """
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.to_tensor = _plain_transform(cfg)
        if self.k_tfm > 1 and transform is None:
            raise ValueError(
                f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, but there is no transform to make "
                "views with: is INPUT.NO_TRANSFORM set?"
            )

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        image = read_image(item.impath)
        output = {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": int(idx),
        }
        for number, view in enumerate(self._views(image), start=1):
            output["img" if number == 1 else f"img{number}"] = view
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _views(self, image: Any) -> list[Any]:
        if self.transform is None:
            return [image]
        several = isinstance(self.transform, list | tuple)
        transforms = self.transform if several else [self.transform]
        views = (tolist_if_not(self._transform_image(tfm, image)) for tfm in transforms)
        return [view for made in views for view in made]

    def _transform_image(self, tfm: Transform, img0: Any) -> Any:
        """Return one view of the image, or the list of K_TRANSFORMS views."""
        views = [tfm(img0) for _ in range(self.k_tfm)]
        return views if len(views) > 1 else views[0]


def _plain_transform(cfg: CfgNode) -> T.Compose:
    """Return resize to INPUT.SIZE, to tensor and, if the configuration has it, normalise."""
    interpolation = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
    steps = [T.Resize(tuple(cfg.INPUT.SIZE), interpolation=interpolation), T.ToTensor()]
    if "normalize" in cfg.INPUT.TRANSFORMS:
        steps.append(T.Normalize(list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD)))
    return T.Compose(steps)


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Transform | Sequence[Transform] | None = None,
    is_train: bool = True,
    dataset_wrapper: Callable[..., Dataset[Any]] | None = None,
) -> DataLoader[Any]:
    """Build a loader over a list of images.

    A training loader's seed is one draw from torch's global generator, made here; nothing is
    drawn from it later. Test loaders draw nothing: all their passes are the same.

    Args:
        dataset_wrapper: called as (cfg, data_source, transform=, is_train=); by default
            `DatasetWrapper`, which one's own should derive from.

    Raises:
        ValueError: there is nothing to load, or the sampler does not fit the data.
    """
    if not data_source:
        raise ValueError("There are no images to load: the list of the data set is empty")
    generator = torch.Generator()
    sampler = build_sampler(
        sampler_type,
        cfg=cfg,
        data_source=data_source,
        batch_size=batch_size,
        n_domain=n_domain,
        n_ins=n_ins,
        generator=generator,
    )
    seed = draw_seed() if is_train else 0
    num_workers = min(cfg.DATALOADER.NUM_WORKERS, _usable_cores())
    wrapper = DatasetWrapper if dataset_wrapper is None else dataset_wrapper
    loader: DataLoader[Any] = DataLoader(
        wrapper(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=SeededSampler(sampler, generator, seed, fixed=not is_train),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        generator=torch.Generator().manual_seed(seed),
    )
    return _not_empty(loader, sampler_type, batch_size)


def _usable_cores() -> int:
    """Return how many cores this process may use: more workers than that slow loading down."""
    if hasattr(os, "sched_getaffinity"):  # not everywhere
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _not_empty(loader: DataLoader[Any], sampler_type: str, batch_size: int) -> DataLoader[Any]:
    if len(loader) == 0:
        raise ValueError(
            f"{sampler_type} makes no batch of {batch_size} out of {len(loader.dataset)} images: "
            "lower the batch size"
        )
    return loader


class DataManager:
    """The data set `cfg.DATASET.NAME` and its loaders.

    Attributes:
        dataset: the data set.
        train_loader_x, test_loader: of the labelled training images, and of the test images.
        train_loader_u, val_loader: None where the data set has no such images.
        num_classes, lab2cname: as the data set says.
        num_source_domains: number of DATASET.SOURCE_DOMAINS.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Transform | Sequence[Transform] | None = None,
        custom_tfm_test: Transform | None = None,
        dataset_wrapper: Callable[..., Dataset[Any]] | None = None,
    ) -> None:
        """
        Args:
            custom_tfm_train, custom_tfm_test: used instead of what INPUT.TRANSFORMS says.
            dataset_wrapper: used instead of `DatasetWrapper`.
        """
        self.dataset: DatasetBase = build_dataset(cfg)
        self.num_classes = self.dataset.num_classes
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self.lab2cname = self.dataset.lab2cname
        self._cfg = cfg
        self._wrapper = dataset_wrapper
        self._tfm_train = custom_tfm_train or build_transform(cfg, is_train=True)
        self._tfm_test = custom_tfm_test or build_transform(cfg, is_train=False)
        self.train_loader_x = self._train_loader(self.dataset.train_x, cfg.DATALOADER.TRAIN_X)
        node_u = cfg.DATALOADER.TRAIN_U
        self.train_loader_u = self._train_loader(
            self.dataset.train_u, cfg.DATALOADER.TRAIN_X if node_u.SAME_AS_X else node_u
        )
        self.val_loader = self._test_loader(self.dataset.val)
        self.test_loader = self._test_loader(self.dataset.test)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    def _train_loader(self, items: list[Datum] | None, node: CfgNode) -> DataLoader[Any] | None:
        if not items:
            return None
        return build_data_loader(
            self._cfg,
            sampler_type=node.SAMPLER,
            data_source=items,
            batch_size=node.BATCH_SIZE,
            n_domain=node.N_DOMAIN,
            n_ins=node.N_INS,
            tfm=self._tfm_train,
            is_train=True,
            dataset_wrapper=self._wrapper,
        )

    def _test_loader(self, items: list[Datum] | None) -> DataLoader[Any] | None:
        if not items:
            return None
        return build_data_loader(
            self._cfg,
            sampler_type=self._cfg.DATALOADER.TEST.SAMPLER,
            data_source=items,
            batch_size=self._cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=self._tfm_test,
            is_train=False,
            dataset_wrapper=self._wrapper,
        )

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Print the data set's name and sizes as a table."""
        data = self.dataset
        rows: list[tuple[str, Any]] = [("Dataset", cfg.DATASET.NAME)]
        if cfg.DATASET.SOURCE_DOMAINS:
            rows.append(("Source", ", ".join(cfg.DATASET.SOURCE_DOMAINS)))
        if cfg.DATASET.TARGET_DOMAINS:
            rows.append(("Target", ", ".join(cfg.DATASET.TARGET_DOMAINS)))
        rows.append(("# classes", f"{self.num_classes:,}"))
        lists = {"train_x": data.train_x, "train_u": data.train_u, "val": data.val}
        rows += [(f"# {name}", f"{len(items):,}") for name, items in lists.items() if items]
        rows.append(("# test", f"{len(data.test or []):,}"))
        print(tabulate(rows))
