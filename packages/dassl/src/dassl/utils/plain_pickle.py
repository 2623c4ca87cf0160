"""Reads what weights-only loading refuses in checkpoints of Dassl 0.6, and still runs no code.

Their schedulers hold torch's scheduler and optimizer objects. Nobody needs those, so they are
replaced by empty stand-ins; a few types that are plain data are let in; all else is refused.
This module is what `torch.load` calls its `pickle_module`.
"""

import os
import pickle
import tarfile
import zipfile
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import torch

_PLAIN = {
    "collections": {"OrderedDict", "defaultdict", "Counter"},
    "builtins": {"dict", "list", "set", "int", "float", "bool"},
    "torch": {"Size", "device"},
    "torch._utils": {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"},
    "numpy": {"dtype"},
}
_OLD_NAMES = {"__builtin__": "builtins", "numpy.core.multiarray": "numpy._core.multiarray"}
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]

_DISPATCH: dict[int, Any] = pickle._Unpickler.dispatch  # what does each opcode


class StandIn:
    """Takes whatever an object is built with, and does nothing."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def check_archive(path: str | os.PathLike[str]) -> None:
    """Look at the file from outside, before any of it is unpickled.

    Raises:
        ValueError: it is a TorchScript archive, which may run code when it is loaded; or a zip
            that unpacks to far more than it is; or of the tar format that was before torch 0.2.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise ValueError("it is a TorchScript archive, not a file of torch.save")
            if sum(entry.file_size for entry in archive.infolist()) > 2 * os.path.getsize(path):
                raise ValueError("it would unpack to far more than it is")
    elif tarfile.is_tarfile(path):
        raise ValueError("it is a tar archive")


def _latin1(text: str, encoding: str) -> bytes:
    """How bytes are written in old pickles; other encodings could make much out of little."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds a text in {encoding}")
    return text.encode("latin1")


# The unpickler that is written in Python: the one in C makes a table as long as a file demands.
class Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(_DISPATCH)
    stack: list[Any]

    def load(self) -> Any:
        """
        Raises:
            pickle.UnpicklingError: the file is no pickle, or not a whole one, or see `find_class`.
        """
        try:
            return super().load()
        except (KeyError, IndexError, EOFError, AttributeError) as error:
            raise pickle.UnpicklingError("it is no whole pickle") from error

    def load_build(self) -> None:
        """Give an object its state, as pickle does, but only what the file made itself.

        Raises:
            pickle.UnpicklingError: it is a class or function, which the whole process shares.
        """
        if callable(self.stack[-2]):
            raise pickle.UnpicklingError("it changes a class or function")
        _DISPATCH[pickle.BUILD[0]](self)

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        """
        Raises:
            pickle.UnpicklingError: the file holds something that is neither plain nor known.
        """
        module = _OLD_NAMES.get(module, module)
        if module == "numpy._core.multiarray" and name == "scalar":
            return _NUMPY_SCALAR
        if module == "_codecs" and name == "encode":
            return _latin1
        if module.startswith("torch.optim."):
            return StandIn
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name in _PLAIN.get(module, ()):
            return getattr(import_module(module), name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def load(file: Any, **kwargs: Any) -> Any:
    return Unpickler(file, **kwargs).load()
