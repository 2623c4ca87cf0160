"""The data set of a configuration, and its loaders."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision.transforms as T
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Dataset as TorchDataset
from yacs.config import CfgNode

from dassl.utils import read_image

from .datasets import DatasetBase, Datum, build_dataset
from .loader import build_data_loader
from .samplers import build_sampler
from .seeding import generator_put_back
from .transforms import INTERPOLATION_MODES, build_transform
from .wrapper import DatasetWrapper, Transform

__all__ = [  # plugins take all of these from here
    "INTERPOLATION_MODES",
    "DataManager",
    "DatasetWrapper",
    "T",
    "TorchDataset",
    "build_data_loader",
    "build_dataset",
    "build_sampler",
    "build_transform",
    "read_image",
    "torch",
]


class DataManager:
    """The data set `cfg.DATASET.NAME` and its loaders.

    Attributes:
        dataset: the data set.
        train_loader_x, test_loader: of the labeled training images, and of the test images.
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
        own_train, own_test = custom_tfm_train is not None, custom_tfm_test is not None
        self._tfm_train = custom_tfm_train if own_train else build_transform(cfg, is_train=True)
        self._tfm_test = custom_tfm_test if own_test else build_transform(cfg, is_train=False)
        train_u, node_u = self.dataset.train_u, cfg.DATALOADER.TRAIN_U
        if node_u.SAME_AS_X:
            node_u = cfg.DATALOADER.TRAIN_X
        with generator_put_back():  # models start as if no loader had drawn its seed
            self.train_loader_x = self._train_loader(self.dataset.train_x, cfg.DATALOADER.TRAIN_X)
            self.train_loader_u = self._train_loader(train_u, node_u) if train_u else None
        self.val_loader = self._test_loader(self.dataset.val)
        self.test_loader = self._test_loader(self.dataset.test)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    def _train_loader(self, items: list[Datum], node: CfgNode) -> DataLoader[Any]:
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
