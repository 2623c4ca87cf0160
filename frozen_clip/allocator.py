"""What the C library does with memory that is given back to it."""

import ctypes
import os
import platform

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE = 4 << 20


def return_freed_memory() -> bool:
    """Let glibc give blocks of 4 MiB and more back to the system as soon as they are freed.

    By itself it soon keeps blocks of up to 32 MiB for later. Those of a training step come in
    many sizes, fit the holes badly, and the process grows to about one and a half times what a step
    needs. Has no effect on GPUs, on other C libraries, or where the environment says
    MALLOC_MMAP_THRESHOLD_; returns whether it had one.
    """
    if platform.libc_ver()[0] != "glibc" or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE))
