"""The original authors' checkpoints as models of this package.

Each published file has one entry in `CONVERSIONS`: ordered rename rules, and a function that reads the sizes off the tensors' shapes.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel

from .models import (
    AttnGANConfig,
    AttnGANGenerator,
    AttnGANScaleDiscriminator,
    DAMSMImageConfig,
    DAMSMImageEncoder,
    DAMSMTextConfig,
    DAMSMTextEncoder,
    DMGANConfig,
    DMGANGenerator,
    DMGANScaleDiscriminator,
    SSAGANConfig,
    SSAGANDiscriminator,
    SSAGANGenerator,
)

State = Mapping[str, Tensor]
Rules = list[tuple[str, str | Callable[[re.Match], str]]]


class Conversion(NamedTuple):
    """How one kind of file becomes a model.

    Attributes:
        model_class: what it becomes.
        rules: (regular expression, replacement as `re.sub` takes it) pairs, applied to each key in order.
        config: makes the model's config from the original state dict and what is known beyond it.
        values: (regular expression, function) pairs; the function makes the tensor of a matching original key, given key and state dict.
    """

    model_class: type[PreTrainedModel]
    rules: Rules
    config: Callable[..., PreTrainedConfig]
    values: tuple[tuple[str, Callable[[str, State], Tensor]], ...] = ()


def load_original(arch: str, part: str, state_dict: State, **known: object) -> PreTrainedModel:
    """Makes a model of an original state dict.

    Args:
        arch: "attngan", "dmgan", "ssagan" or "damsm".
        part: "text_encoder" or "image_encoder" (of any arch trained with DAMSM), "generator", "discriminator" (SSA-GAN), "discriminator64",
            "discriminator128" or "discriminator256" (AttnGAN and DM-GAN: one scale of the discriminator).
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
        for pattern, value in conversion.values:
            original |= {key: value(key, original) for key in original if re.search(pattern, key)}
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


def rename(key: str, rules: Rules) -> str:
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


def _stacked_generator_config(config_class: type[PreTrainedConfig], state: State, **known: object) -> PreTrainedConfig:
    conditioning_dim, text_dim = state["ca_net.fc.weight"].shape[0] // 4, state["ca_net.fc.weight"].shape[1]
    stages = _count(state, "h_net")
    return config_class(
        image_size=4 * 2 ** (_count(state, r"h_net1\.upsample") + stages - 1),
        num_stages=stages,
        noise_dim=state["h_net1.fc.0.weight"].shape[1] - conditioning_dim,
        conditioning_dim=conditioning_dim,
        generator_channels=state["img_net1.img.0.weight"].shape[1],
        num_residual_blocks=_count(state, r"h_net2\.residual\."),
        **_text_width(text_dim, known),
    )


def _scale_discriminator_config(config_class: type[PreTrainedConfig], suffix: str, stages: int, state: State, **known: object) -> PreTrainedConfig:
    """Of the published scales: the last of `stages`, 64 px the lowest; `suffix` ends the names of convolution weights."""
    joint = state[f"COND_DNET.jointConv.0.{suffix}"]
    return config_class(
        image_size=64 << (stages - 1),
        num_stages=stages,
        discriminator_channels=state[f"img_code_s16.0.{suffix}"].shape[0],
        **_text_width(joint.shape[1] - joint.shape[0], known),
    )


def _power_iteration(state: State, prefix: str) -> tuple[Tensor, Tensor]:
    """The singular vectors (u, v) that DM-GAN's first forward computes before it divides by u W v."""
    matrix = state[prefix + "weight_bar"].float().flatten(1)
    v = F.normalize(matrix.T @ state[prefix + "weight_u"].float(), dim=0, eps=1e-12)
    return F.normalize(matrix @ v, dim=0, eps=1e-12), v


def _text_width(width: int, known: dict) -> dict:
    """Config fields with the text width read off the networks, unless the text encoder's own config is known."""
    return {"text_config": {"hidden_size": width}, **known}


def _count(state: State, prefix: str) -> int:
    """How many numbered submodules `prefix0`, `prefix1`, ... there are."""
    return len({match[1] for key in state if (match := re.match(rf"{prefix}(\d+)\.", key))})


STACKED_GENERATOR_RULES = [
    (r"^ca_net\.fc\.", "conditioning.project."),
    (r"^h_net1\.fc\.", "first_stage.project."),
    (r"^h_net1\.upsample(\d)\.", lambda match: f"first_stage.upsample.{int(match[1]) - 1}."),
    (r"^h_net(\d)\.", lambda match: f"stages.{int(match[1]) - 2}."),
    (r"^img_net(\d)\.img\.", lambda match: f"heads.{int(match[1]) - 1}."),
    (r"residual\.(\d+)\.block\.", r"residual.\1.residual."),
]
SCALE_DISCRIMINATOR_RULES = [  # of img_code_s16's layers, the convolutions are every third in AttnGAN, every second in DM-GAN
    (r"^img_code_s32\.", "down.4."),
    (r"^img_code_s64\.", "down.5."),
    (r"^img_code_s(32|64)_(\d)\.", lambda match: f"narrow.{int(match[2]) - 1}."),
    (r"^COND_DNET\.jointConv\.", "joint."),
    (r"^COND_DNET\.outlogits\.0\.", "cond_head."),
    (r"^UNCOND_DNET\.outlogits\.0\.", "uncond_head."),
]


def _attngan_discriminator(stages: int) -> Conversion:
    rules = [
        (r"^img_code_s16\.0\.", "down.0.0."),
        (r"^img_code_s16\.([258])\.", lambda match: f"down.{(int(match[1]) + 1) // 3}.0."),
        (r"^img_code_s16\.([369])\.", lambda match: f"down.{int(match[1]) // 3}.1."),
    ]
    config = partial(_scale_discriminator_config, AttnGANConfig, "weight", stages)
    return Conversion(AttnGANScaleDiscriminator, rules + SCALE_DISCRIMINATOR_RULES, config)


def _dmgan_discriminator(stages: int) -> Conversion:
    rules = [
        (r"^img_code_s16\.([0246])\.", lambda match: f"down.{int(match[1]) // 2}.0."),
        (r"module\.weight_bar$", "parametrizations.weight.original"),
        (r"module\.weight_([uv])$", r"parametrizations.weight.0._\1"),
        (r"module\.bias$", "bias"),
    ]
    config = partial(_scale_discriminator_config, DMGANConfig, "module.weight_bar", stages)
    vectors = (r"weight_[uv]$", lambda key, state: _power_iteration(state, key[: -len("weight_u")])[0 if key.endswith("u") else 1])
    return Conversion(DMGANScaleDiscriminator, rules + SCALE_DISCRIMINATOR_RULES, config, (vectors,))


CONVERSIONS = {
    ("attngan", "generator"): Conversion(
        AttnGANGenerator,
        [*STACKED_GENERATOR_RULES, (r"att\.conv_context\.", "project_words.")],
        partial(_stacked_generator_config, AttnGANConfig),
        ((r"conv_context\.weight$", lambda key, state: state[key].squeeze(-1)),),  # a 1x1 convolution over words in a row
    ),
    **{("attngan", f"discriminator{64 << i}"): _attngan_discriminator(i + 1) for i in range(3)},
    ("dmgan", "generator"): Conversion(
        DMGANGenerator,
        [
            *STACKED_GENERATOR_RULES,
            (r"\.A\.", ".word_relevance."),
            (r"\.B\.", ".image_relevance."),
            (r"\.M_w\.0\.", ".write_words."),
            (r"\.M_r\.0\.", ".write_image."),
            (r"\.(key|value|response_gate)\.0\.", r".\1."),
        ],
        partial(_stacked_generator_config, DMGANConfig),
    ),
    **{("dmgan", f"discriminator{64 << i}"): _dmgan_discriminator(i + 1) for i in range(3)},
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
