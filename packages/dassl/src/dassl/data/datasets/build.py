"""Data sets by configuration."""

from typing import TYPE_CHECKING

from yacs.config import CfgNode

from dassl.utils import Registry, check_availability

if TYPE_CHECKING:
    from .base_dataset import DatasetBase

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> "DatasetBase":
    """Build the data set `cfg.DATASET.NAME`.

    Raises:
        ValueError: there is none of that name.
    """
    name = cfg.DATASET.NAME
    known = DATASET_REGISTRY.registered_names()
    check_availability(name, known, what="data set (DATASET.NAME)")
    if cfg.VERBOSE:
        print(f"Loading dataset: {name}")
    return DATASET_REGISTRY.get(name)(cfg)
