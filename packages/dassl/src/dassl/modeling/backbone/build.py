"""Backbones by configuration."""

from typing import Any

from torch import nn

from dassl.modeling.build import build_from
from dassl.utils import Registry

BACKBONE_REGISTRY = Registry("BACKBONE")


class Backbone(nn.Module):
    """A module from images to (N, `out_features`) features; subclasses set `_out_features`."""

    _out_features: int

    @property
    def out_features(self) -> int:
        return self._out_features


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """Build a registered backbone."""
    return build_from(BACKBONE_REGISTRY, "backbone", name, verbose, **kwargs)
