"""What the registries of models share."""

from typing import Any

from torch import nn

from dassl.utils import Registry, check_availability


def build_from(registry: Registry, what: str, name: str, verbose: bool, **kwargs: Any) -> nn.Module:
    """Call what `registry` has under `name` with `kwargs`.

    Raises:
        ValueError: it has nothing of that name.
    """
    check_availability(name, registry.registered_names(), what=what)
    if verbose:
        print(f"Building {what}: {name}")
    return registry.get(name)(**kwargs)
