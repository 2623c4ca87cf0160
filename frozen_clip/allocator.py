"""How PyTorch asks the system for memory on a CPU."""

import os


def ask_for_huge_pages() -> None:
    """Let PyTorch's CPU tensors stand on huge pages, where Linux offers them.

    Pages of 2 MiB are handed out and given back at once, those of 4 KiB one by one. A process that
    trains takes about a quarter less memory with them, at the same speed (docs/benchmarks.md).
    What the environment says already is left. PyTorch reads the variable once, when it makes its
    first tensor.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
