"""Reads what weights-only loading refuses in checkpoints of Dassl 0.6, and still runs no code.

Their schedulers hold torch's scheduler and optimiser objects. Nobody needs those, so they are
replaced by empty stand-ins; a few types that are plain data are let in; all else is refused.
This module is what `torch.load` calls its `pickle_module`.
"""

import pickle
from importlib import import_module
from typing import Any

import numpy as np
import torch

_PLAIN = {
    "collections": {"OrderedDict", "defaultdict", "Counter"},
    "builtins": {"dict", "list", "set", "int", "float", "bool"},
    "torch": {"Size", "device"},
    "torch._utils": {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"},
    "numpy": {"dtype"},
    "_codecs": {"encode"},  # how bytes are written
}
_OLD_NAMES = {"__builtin__": "builtins", "numpy.core.multiarray": "numpy._core.multiarray"}
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]


class StandIn:
    """Takes whatever an object is built with, and does nothing."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """
        Raises:
            pickle.UnpicklingError: the file holds something that is neither plain nor known.
        """
        module = _OLD_NAMES.get(module, module)
        if module == "numpy._core.multiarray" and name == "scalar":
            return _NUMPY_SCALAR
        if module.startswith("torch.optim."):
            return StandIn
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name in _PLAIN.get(module, ()):
            return getattr(import_module(module), name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def load(file: Any, **kwargs: Any) -> Any:
    return Unpickler(file, **kwargs).load()
