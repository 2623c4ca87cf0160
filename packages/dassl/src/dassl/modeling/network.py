"""Whole networks by name, for plugins that register theirs."""

from typing import Any

from torch import nn

from dassl.utils import Registry
from dassl.utils.registry import pick

NETWORK_REGISTRY = Registry("NETWORK")


def build_network(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """Build a registered network."""
    return pick(NETWORK_REGISTRY, name, "network", "name", verbose)(**kwargs)
