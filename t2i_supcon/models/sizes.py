"""What the numbers of a config may be: ranges by name, so wide that only mistakes lie outside."""

import math
from collections.abc import Mapping

from transformers import PreTrainedConfig

from .base import shown_number

WIDTH = (1, 2**16)
DEPTH = (1, 1000)
RANGES = {
    "image_size": (1, 4096),
    "noise_dim": WIDTH,
    "conditioning_dim": WIDTH,
    "conditioning_std": (0.0, 1e6),
    "generator_channels": WIDTH,
    "discriminator_channels": WIDTH,
    "initial_gamma": (-10.0, 10.0),
    "mask_channels": WIDTH,
    "mapper_channels": WIDTH,
    "score_channels": WIDTH,
    "mapper_blocks": DEPTH,
    "num_stages": (1, 10),
    "num_residual_blocks": (0, 1000),
    "vocab_size": (1, 10**7),
    "embedding_dim": WIDTH,
    "hidden_size": WIDTH,
    "dropout": (0.0, 1.0),
    "gain": (1e-6, 1e6),
    "channel_divisor": (1, 16),
    "intermediate_size": WIDTH,
    "projection_dim": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": DEPTH,
    "patch_size": (1, 4096),
    "max_position_embeddings": WIDTH,
    "logit_scale_init": (-100.0, 100.0),
}


def check_sizes(values: PreTrainedConfig | Mapping[str, object], prefix: str = "") -> None:
    """Refuses numbers that no network can have, before one is built that has no end.

    Args:
        values: a config, or some of its values; configs inside it are looked into.
        prefix: of their names in the message.

    Raises:
        ValueError: a number out of its range.
    """
    for name, value in (values if isinstance(values, Mapping) else vars(values)).items():
        low, high = RANGES.get(name, (-math.inf, math.inf))
        if isinstance(value, PreTrainedConfig | Mapping):
            check_sizes(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and name in RANGES and not low <= value <= high:
            shown = shown_number(value) if isinstance(value, int) else value
            raise ValueError(f"{prefix}{name} is {shown}; it must be at least {low:,} and at most {high:,}")
