"""Backbones by configuration."""

from typing import Any

from torch import nn

from dassl.utils import Registry
from dassl.utils.registry import pick

BACKBONE_REGISTRY = Registry("BACKBONE")


class Backbone(nn.Module):
    """A module from images to (N, `out_features`) features; subclasses set `_out_features`."""

    _out_features: int

    @property
    def out_features(self) -> int:
        return self._out_features


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> Backbone:
    """Build a registered backbone."""
    return pick(BACKBONE_REGISTRY, name, "backbone", "MODEL.BACKBONE.NAME", verbose)(**kwargs)
