"""Data sets by configuration."""

from typing import TYPE_CHECKING

from yacs.config import CfgNode

from dassl.utils import Registry
from dassl.utils.registry import pick

if TYPE_CHECKING:
    from .base_dataset import DatasetBase

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> "DatasetBase":
    """Build the data set `cfg.DATASET.NAME`.

    Raises:
        ValueError: there is none of that name.
    """
    return pick(DATASET_REGISTRY, cfg.DATASET.NAME, "dataset", "DATASET.NAME", cfg.VERBOSE)(cfg)
