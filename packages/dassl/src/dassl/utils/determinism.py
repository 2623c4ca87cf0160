"""Deterministic algorithms: the same command, the same bits, on a GPU too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # read when CUDA starts


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Ask torch for deterministic algorithms, if `wanted`; as it was before, afterwards.

    An operation that has none is named in a warning and runs all the same.
    """
    if not wanted:
        yield
        return
    mode = torch.get_deterministic_debug_mode()
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, os.environ.get(CUBLAS)
    os.environ.setdefault(CUBLAS, ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.deterministic, cudnn.benchmark = True, False
    print(
        "DETERMINISTIC: slower on a GPU, where sums are taken in a fixed order and the quickest "
        "kernels are not looked for (compare the times in the lines below with and without it); "
        "on a CPU it costs little. Other hardware, versions or numbers of threads may still "
        "differ in the last digits"
    )
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        cudnn.deterministic, cudnn.benchmark, workspace = before
        if workspace is None:
            os.environ.pop(CUBLAS, None)
