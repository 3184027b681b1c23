"""How the process asks the system for memory."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_freed_memory() -> bool:
    """Lets the C library keep the memory that tensors free, for the tensors of the next step, instead of handing it back to the system.

    A training step on a CPU allocates the same few gigabytes again and again, and the system clears every page that it hands out anew: that
    can cost more than a third of the step. The process keeps its peak of memory until it ends.

    Returns:
        Whether the C library has this setting (glibc has).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if hasattr(ctypes, "CDLL") else None
    return mallopt is not None and all((mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)))
