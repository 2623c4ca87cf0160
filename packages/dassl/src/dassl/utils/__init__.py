"""Helpers without a home of their own.

What needs torch is imported on first use, so that scripts which only read logs start at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .file_kinds import what_it_is
from .images import read_image
from .logger import Logger, setup_logger
from .meters import AverageMeter, MetricMeter
from .registry import Registry
from .tools import (
    check_availability,
    check_isfile,
    collect_env_info,
    download_url,
    get_most_similar_str_to_a_from_b,
    listdir_nohidden,
    mkdir_if_missing,
    read_json,
    set_random_seed,
    tolist_if_not,
    write_json,
)

if TYPE_CHECKING:
    from .torchtools import (
        count_num_param,
        init_network_weights,
        load_checkpoint,
        load_pretrained_weights,
        open_all_layers,
        open_specified_layers,
        resume_from_checkpoint,
        save_checkpoint,
    )

_TORCH_TOOLS = (
    "count_num_param",
    "init_network_weights",
    "load_checkpoint",
    "load_pretrained_weights",
    "open_all_layers",
    "open_specified_layers",
    "resume_from_checkpoint",
    "save_checkpoint",
)

__all__ = [
    "AverageMeter",
    "Logger",
    "MetricMeter",
    "Registry",
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "count_num_param",
    "download_url",
    "get_most_similar_str_to_a_from_b",
    "init_network_weights",
    "listdir_nohidden",
    "load_checkpoint",
    "load_pretrained_weights",
    "mkdir_if_missing",
    "open_all_layers",
    "open_specified_layers",
    "read_image",
    "read_json",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_random_seed",
    "setup_logger",
    "tolist_if_not",
    "what_it_is",
    "write_json",
]


def __getattr__(name: str) -> Any:
    if name in _TORCH_TOOLS:
        return getattr(import_module(".torchtools", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
