"""Backbones by configuration."""

from typing import Any

from dassl.utils import Registry
from dassl.utils.registry import pick

from .backbone import Backbone

BACKBONE_REGISTRY = Registry("BACKBONE")


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> Backbone:
    """Build a registered backbone."""
    return pick(BACKBONE_REGISTRY, name, "backbone", "MODEL.BACKBONE.NAME", verbose)(**kwargs)
