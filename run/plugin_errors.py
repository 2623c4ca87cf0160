"""Errors of plugins, in words, with the plugin's file and line."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import TracebackType

import torch

NOT_THEIRS = {"dassl", "run", "train", "__main__", *sys.stdlib_module_names}


@contextmanager
def plugin_errors(file: Path) -> Iterator[None]:
    """Within, whatever fails becomes a ValueError that names the plugin's file and line."""
    try:
        yield
    except Exception as error:  # a plugin may do anything
        line = getattr(error, "lineno", None)  # of a SyntaxError
        for frame, number in walk_tb(error.__traceback__):
            if frame.f_code.co_filename in (str(file), str(file.resolve())):
                line = number
        where = f"{file}, line {line}" if line else file
        raise ValueError(
            f"the plugin {where} cannot be used: {type(error).__name__}: {error}\n"
            "(--debug shows the whole traceback)"
        ) from error


@contextmanager
def plugin_faults(backbone: str) -> Iterator[None]:
    """Within, ValueError with the plugin's line for two faults that are common in published code:
    a GPU is taken for granted, or that CLIP has one of OpenAI's names."""
    try:
        yield
    except (KeyError, RuntimeError, AssertionError) as error:
        remedy = _remedy(error, backbone)
        place = _line_of_others(error.__traceback__)
        if remedy is None or place is None:
            raise
        raise ValueError(f"the plugin {place} {remedy}") from error


def _remedy(error: Exception, backbone: str) -> str | None:
    if isinstance(error, KeyError) and error.args == (backbone,):
        return (
            f"knows no CLIP called {backbone!r}: it looks in a table of OpenAI's names, so give it "
            "one of those, such as --backbone ViT-B/16, or let that line take a file"
        )
    if re.search("CUDA|NVIDIA driver", str(error)) and not torch.cuda.is_available():
        reason = str(error).partition("\n")[0]
        return (
            f"needs a GPU, and there is none that PyTorch can use ({reason:.200}): take "
            "self.device in that line, as in x.to(self.device) or torch.load(..., "
            "map_location=self.device), or start it where there is a GPU"
        )
    return None


def _line_of_others(trace: TracebackType | None) -> str | None:
    """The last line in a traceback that is a plugin's, or of a module that came with one."""
    place = None
    for frame, line in walk_tb(trace):
        file = frame.f_code.co_filename
        room = frame.f_globals.get("__name__", "").partition(".")[0]
        is_installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
        if room not in NOT_THEIRS and not is_installed:
            place = f"{file}, line {line},"
    return place
