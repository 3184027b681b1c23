"""What a config says of a network that the shapes and values of its tensors do not."""

import dataclasses
import hashlib
import json

from transformers import PreTrainedConfig


def own_fields(config_class: type[PreTrainedConfig]) -> list[str]:
    """The fields that a config class adds to those of every config."""
    inherited = {f.name for f in dataclasses.fields(PreTrainedConfig)}
    return [f.name for f in dataclasses.fields(config_class) if f.name not in inherited]


def architecture(config: PreTrainedConfig, prefix: str = "model_config.") -> dict[str, object]:
    """All values that decide what a network computes, also those that no tensor's shape tells, by
    the names that a recipe gives them."""
    values = {}
    for name in own_fields(type(config)):
        value = getattr(config, name)
        if isinstance(value, PreTrainedConfig):
            values |= architecture(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = list(value) if isinstance(value, tuple) else value
    return values


def architecture_hash(config: PreTrainedConfig) -> str:
    """A short name of these values."""
    return hashlib.sha256(json.dumps(architecture(config), sort_keys=True).encode()).hexdigest()[:16]
