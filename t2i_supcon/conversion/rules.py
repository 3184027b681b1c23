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


class Files(NamedTuple):
    """Which files an architecture comes in.

    Attributes:
        required, optional: the parts, by the names `load_original` knows them by, and "captions"
            (AttnGAN's pickle) or "tokenizer" (a folder).
        align_corners: of the image encoder's resize in the authors' repository; None where there is
            no such encoder.
        licence: of the published weights, as the Hub names it, where their authors restrict their
            use.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    align_corners: bool | None = None
    licence: str | None = None


# names of parts in the blocks of DF-GAN's authors, and after them in those of SSA-GAN and GALIP
FUSION_BLOCKS: Rules = [
    (r"^GBlocks\.(\d+)\.c([12])\.", r"blocks.\1.conv\2."),
    (r"^GBlocks\.", "blocks."),
    (r"affine([01])\.", r"affines.\1."),
    (r"fc_gamma\.", "scale."),
    (r"fc_beta\.", "shift."),
    (r"c_sc\.", "shortcut."),
]
PENALISED_BLOCKS: Rules = [(r"conv_r\.", "residual."), (r"conv_s\.", "shortcut.")]


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
