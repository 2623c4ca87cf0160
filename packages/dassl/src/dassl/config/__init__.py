"""The engine's configuration tree (yacs)."""

from yacs.config import CfgNode

from .defaults import default_config

__all__ = ["clean_cfg", "get_cfg_default"]


def get_cfg_default() -> CfgNode:
    """Return a fresh, mutable copy of the engine's default configuration."""
    return default_config()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop from `cfg.TRAINER`, in place, what belongs to trainers other than `trainer`.

    `NAME` and the node called like the trainer (upper or lower case) stay.
    """
    keep = {"name", trainer.lower()}
    for key in [key for key in cfg.TRAINER if key.lower() not in keep]:
        del cfg.TRAINER[key]
