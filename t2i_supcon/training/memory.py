"""How a training process gets its memory from the system, and networks that no memory holds."""

import ctypes
import sys

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

MAX_PARAMETERS = 2 * 10**9  # with gradients and Adam's moments, 32 GB in float32
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Lets the C library keep the memory that tensors free for the tensors of the next step,
    instead of handing it back to the system.

    A step on a CPU allocates the same few gigabytes again and again, and the system clears every
    page it hands out anew, which can take more than a third of the step; so does reading rows for
    the workers that decode them. The process then stays as large as it once was until it ends.

    Returns:
        Whether the C library has these settings; glibc, the usual one on Linux, does.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1


def build_network(network_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """Builds a new network of a config's sizes.

    Raises:
        ValueError: it would have more than `MAX_PARAMETERS`.
    """
    with torch.device("meta"), no_init_weights():  # sizes without memory, and without values
        parameters = sum(parameter.numel() for parameter in network_class(config).parameters())
    if parameters > MAX_PARAMETERS:
        raise ValueError(
            f"model_config makes a {network_class.__name__} of {parameters:,} parameters; at most {MAX_PARAMETERS:,} "
            "can be trained: make it narrower"
        )
    return network_class(config)
