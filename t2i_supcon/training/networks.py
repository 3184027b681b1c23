"""New networks, of sizes that a machine can hold."""

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

MAX_PARAMETERS = 2 * 10**9  # with gradients and Adam's moments, 32 GB in float32


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
