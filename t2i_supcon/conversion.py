"""The original authors' checkpoints as models of this package.

Each published file has one entry in `CONVERSIONS`: ordered rename rules, and a function that reads the sizes off the tensors' shapes.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from .models import DAMSMImageConfig, DAMSMImageEncoder, DAMSMTextConfig, DAMSMTextEncoder, SSAGANConfig, SSAGANDiscriminator, SSAGANGenerator

State = Mapping[str, Tensor]


class Conversion(NamedTuple):
    """How one kind of file becomes a model.

    Attributes:
        model_class: what it becomes.
        rules: (regular expression, replacement) pairs, applied to each key in order.
        config: makes the model's config from the original state dict and what is known beyond it.
    """

    model_class: type[PreTrainedModel]
    rules: list[tuple[str, str]]
    config: Callable[..., PreTrainedConfig]


def load_original(arch: str, part: str, state_dict: State, **known: object) -> PreTrainedModel:
    """Makes a model of an original state dict.

    Args:
        arch: "damsm" or "ssagan".
        part: "text_encoder" or "image_encoder" (of any arch trained with DAMSM), "generator", "discriminator".
        state_dict: the original's tensors by name, with or without the `module.` that DataParallel puts before each.
        known: config fields that shapes cannot tell, such as `align_corners` of the image encoder; published values when absent.

    Returns:
        The model in evaluation mode, every tensor loaded. `num_batches_tracked`, which files of old torch versions lack, may be missing.

    Raises:
        ValueError: an arch and part that do not exist, a tensor whose shape contradicts the others, or keys that are missing or left
            over, each of them named.
    """
    if part in ("text_encoder", "image_encoder"):
        arch = "damsm"
    if (arch, part) not in CONVERSIONS:
        raise ValueError(f"there is no conversion of {arch!r} {part!r}; known are {', '.join(' '.join(pair) for pair in CONVERSIONS)}")
    conversion = CONVERSIONS[arch, part]
    original = {key.removeprefix("module."): value for key, value in state_dict.items()}
    try:
        config = conversion.config(original, **known)
    except KeyError as error:
        raise ValueError(f"this is no {arch} {part}: its tensor {error} is missing; found {', '.join(list(original)[:5])}, ...") from error
    model = conversion.model_class(config)
    renamed = {rename(key, conversion.rules): value.to(torch.float32) if value.is_floating_point() else value for key, value in original.items()}
    own = model.state_dict()
    for key, value in own.items():
        if key.endswith("num_batches_tracked"):
            renamed.setdefault(key, value)
    problems = [f"missing: {key}" for key in own if key not in renamed] + [f"left over: {key}" for key in renamed if key not in own]
    problems += [
        f"{key} has shape {tuple(renamed[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in renamed and renamed[key].shape != own[key].shape
    ]
    if problems:
        raise ValueError(f"the file does not fit {arch} {part}:\n  " + "\n  ".join(problems))
    model.load_state_dict(renamed)
    return model.eval()


def rename(key: str, rules: list[tuple[str, str]]) -> str:
    """An original key's name here."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _text_encoder_config(state: State, **known: object) -> DAMSMTextConfig:
    vocab_size, embedding_dim = state["encoder.weight"].shape
    return DAMSMTextConfig(vocab_size=vocab_size, embedding_dim=embedding_dim, hidden_size=2 * state["rnn.weight_hh_l0"].shape[1], **known)


def _image_encoder_config(state: State, **known: object) -> DAMSMImageConfig:
    divisor = 32 // state["Conv2d_1a_3x3.conv.weight"].shape[0]
    return DAMSMImageConfig(hidden_size=state["emb_features.weight"].shape[0], channel_divisor=divisor, **known)


def _ssagan_generator_config(state: State, **known: object) -> SSAGANConfig:
    return SSAGANConfig(
        image_size=4 * 2 ** (_count(state, "block") - 1),
        noise_dim=state["fc.weight"].shape[1],
        generator_channels=state["conv_img.0.weight"].shape[0],
        mask_channels=state["conv_mask.0.weight"].shape[0],
        **_text_width(state["block0.affine0.fc_gamma.linear1.weight"].shape[1], known),
    )


def _ssagan_discriminator_config(state: State, **known: object) -> SSAGANConfig:
    last = state[f"block{_count(state, 'block') - 1}.conv_r.2.weight"].shape[0]
    return SSAGANConfig(
        image_size=4 * 2 ** _count(state, "block"),
        discriminator_channels=state["conv_img.weight"].shape[0],
        **_text_width(state["COND_DNET.joint_conv.0.weight"].shape[1] - last, known),
    )


def _text_width(width: int, known: dict) -> dict:
    """Config fields with the text width read off the networks, unless the text encoder's own config is known."""
    return {"text_config": {"hidden_size": width}, **known}


def _count(state: State, prefix: str) -> int:
    """How many numbered submodules `prefix0`, `prefix1`, ... there are."""
    return len({match[1] for key in state if (match := re.match(rf"{prefix}(\d+)\.", key))})


CONVERSIONS = {
    ("damsm", "text_encoder"): Conversion(DAMSMTextEncoder, [(r"^encoder\.", "embedding."), (r"^rnn\.", "lstm.")], _text_encoder_config),
    ("damsm", "image_encoder"): Conversion(
        DAMSMImageEncoder,
        [(r"^emb_features\.", "region_head."), (r"^emb_cnn_code\.", "image_head."), (r"^(Conv2d|Mixed)_", r"trunk.\1_")],
        _image_encoder_config,
    ),
    ("ssagan", "generator"): Conversion(
        SSAGANGenerator,
        [
            (r"^block(\d+)\.", r"blocks.\1."),
            (r"affine0\.", "norm1."),
            (r"affine2\.", "norm2."),
            (r"batch_norm2d\.", "norm."),
            (r"fc_gamma\.", "scale."),
            (r"fc_beta\.", "shift."),
            (r"conv_mask\.", "mask_head."),
            (r"\.c([12])\.", r".conv\1."),
            (r"c_sc\.", "shortcut."),
            (r"^fc\.", "project_noise."),
            (r"^conv_img\.", "to_rgb."),
        ],
        _ssagan_generator_config,
    ),
    ("ssagan", "discriminator"): Conversion(
        SSAGANDiscriminator,
        [
            (r"^block(\d+)\.", r"blocks.\1."),
            (r"conv_r\.", "residual."),
            (r"conv_s\.", "shortcut."),
            (r"^conv_img\.", "from_rgb."),
            (r"^COND_DNET\.joint_conv\.", "joint."),
        ],
        _ssagan_discriminator_config,
    ),
}
