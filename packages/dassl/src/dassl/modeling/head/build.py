"""Heads by configuration."""

from typing import Any

from torch import nn

from dassl.utils import Registry
from dassl.utils.registry import pick

HEAD_REGISTRY = Registry("HEAD")


def build_head(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """Build a registered head."""
    return pick(HEAD_REGISTRY, name, "head", "MODEL.HEAD.NAME", verbose)(**kwargs)
