"""How a process gets its memory from the system."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Lets the C library keep the memory that tensors free for the tensors of the next step,
    instead of handing it back to the system.

    A training step on a CPU, and a network that embeds pictures, allocate the same memory again and
    again, and the system clears every page it hands out anew, which can take more than a third of
    the time; so does reading rows for the workers that decode them. The process then stays as large
    as it once was until it ends.

    Returns:
        Whether the C library has these settings; glibc, the usual one on Linux, does.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1
