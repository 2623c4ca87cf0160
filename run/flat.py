"""Nested settings as flat keys, and which of these change no result."""

from collections.abc import Iterator
from typing import Any

# Keys that may change between a run and its continuation without changing what it computes.
INCIDENTAL = {
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "DEVICE",  # as with 'auto' on another machine; results.json has the name of the device
    "DATASET.ROOT",
    "DATALOADER.NUM_WORKERS",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.CHECKPOINT_EVERY",
    "TEST.SAVE_PREDICTIONS",
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
    "TEST.NO_TEST",
    "FEATURES.STORE",  # the numbers are the same
    "FEATURES.MAX_GB",
}
# What runs did whose config.yaml is older than the key.
EARLIER = {"INPUT.EXIF_ORIENTATION": "ignore"}


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of nested mappings as ('A.B.C', value)."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
