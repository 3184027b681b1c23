"""What the rules of every family are made of: names, sizes read off shapes, unpacked tensors."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

State = Mapping[str, Tensor]
Rules = list[tuple[str, str | Callable[[re.Match], str]]]


class Conversion(NamedTuple):
    """How one kind of file becomes a model.

    Attributes:
        model_class: what it becomes.
        rules: (regular expression, replacement as `re.sub` takes it) pairs, applied to each key in
            order.
        config: makes the model's config from the original state dict and what is known beyond it.
        unpack: what must happen to the tensors themselves before they are renamed.
    """

    model_class: type[PreTrainedModel]
    rules: Rules
    config: Callable[..., PreTrainedConfig]
    unpack: Callable[[State], State] = dict


def rename(key: str, rules: Rules) -> str:
    """An original key's name here."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def shape_of(state: State, key: str, rank: int) -> tuple[int, ...]:
    """The sizes of one tensor.

    Raises:
        KeyError: there is none of that name.
        ValueError: it has another number of dimensions, or is empty.
    """
    shape = tuple(state[key].shape)
    if len(shape) != rank or 0 in shape:
        raise ValueError(f"{key} has shape {shape}; {rank} dimensions, none of them 0, are expected")
    return shape


def text_width(width: int, known: dict) -> dict:
    """Config fields with the text width read off the networks, unless the text encoder's own config
    is known."""
    return {"text_config": {"hidden_size": width}, **known}


def count_modules(state: State, prefix: str) -> int:
    """How many numbered submodules `prefix0`, `prefix1`, ... there are."""
    return len({match[1] for key in state if (match := re.match(rf"{prefix}(\d+)\.", key))})
