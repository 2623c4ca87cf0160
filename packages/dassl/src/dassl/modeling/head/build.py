"""Heads by configuration."""

from typing import Any

from torch import nn

from dassl.modeling.build import build_from
from dassl.utils import Registry

HEAD_REGISTRY = Registry("HEAD")


def build_head(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """Build a registered head."""
    return build_from(HEAD_REGISTRY, "head", name, verbose, **kwargs)
