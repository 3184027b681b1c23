"""AttnGAN's and DM-GAN's generators and, scale by scale, their discriminators."""

from functools import partial

from torch.nn import functional as F
from transformers import PreTrainedConfig

from ..models import (
    AttnGANConfig,
    AttnGANGenerator,
    AttnGANScaleDiscriminator,
    DMGANConfig,
    DMGANGenerator,
    DMGANScaleDiscriminator,
)
from .rules import Conversion, Files, State, count_modules, shape_of, text_width


def _stacked_generator_config(config_class: type[PreTrainedConfig], state: State, **known: object) -> PreTrainedConfig:
    projected, text_dim = shape_of(state, "ca_net.fc.weight", 2)
    conditioning_dim = projected // 4
    stages, single = count_modules(state, "h_net"), "img_net.img.0.weight" in state
    return config_class(
        image_size=4 * 2 ** (count_modules(state, r"h_net1\.upsample") + stages - 1),
        num_stages=stages,
        noise_dim=shape_of(state, "h_net1.fc.0.weight", 2)[1] - conditioning_dim,
        conditioning_dim=conditioning_dim,
        generator_channels=shape_of(state, "img_net.img.0.weight" if single else "img_net1.img.0.weight", 4)[1],
        num_residual_blocks=count_modules(state, r"h_net2\.residual\."),
        single_scale=single,
        **text_width(text_dim, known),
    )


def _scale_discriminator_config(
    config_class: type[PreTrainedConfig], suffix: str, stages: int, state: State, **known: object
) -> PreTrainedConfig:
    """Of the published scales: the last of `stages`, 64 px the lowest; `suffix` ends the names of
    convolution weights."""
    joint = shape_of(state, f"COND_DNET.jointConv.0.{suffix}", 4)
    return config_class(
        image_size=64 << (stages - 1),
        num_stages=stages,
        discriminator_channels=shape_of(state, f"img_code_s16.0.{suffix}", 4)[0],
        single_scale="UNCOND_DNET.outlogits.0.weight" not in state,
        **text_width(joint[1] - joint[0], known),
    )


def _unpack_word_projections(state: State) -> State:
    """Turns AttnGAN's 1x1 convolutions over the words in a row into linear layers."""
    return {key: value.squeeze(-1) if key.endswith("conv_context.weight") else value for key, value in state.items()}


def _iterate_spectral_norms(state: State) -> State:
    """Takes the step of the power iteration that DM-GAN's first forward takes before it divides by
    u W v."""
    moved = dict(state)
    for key in state:
        if key.endswith("weight_bar"):
            prefix = key.removesuffix("weight_bar")
            matrix = state[key].float().flatten(1)
            v = F.normalize(matrix.T @ state[prefix + "weight_u"].float(), dim=0, eps=1e-12)
            moved |= {prefix + "weight_u": F.normalize(matrix @ v, dim=0, eps=1e-12), prefix + "weight_v": v}
    return moved


STACKED_GENERATOR_RULES = [
    (r"^ca_net\.fc\.", "conditioning.project."),
    (r"^h_net1\.fc\.", "first_stage.project."),
    (r"^h_net1\.upsample(\d)\.", lambda match: f"first_stage.upsample.{int(match[1]) - 1}."),
    (r"^h_net(\d)\.", lambda match: f"stages.{int(match[1]) - 2}."),
    (r"^img_net\.img\.", "heads.0."),
    (r"^img_net(\d)\.img\.", lambda match: f"heads.{int(match[1]) - 1}."),
    (r"residual\.(\d+)\.block\.", r"residual.\1.residual."),
]

# Of img_code_s16's layers, every third is a convolution in AttnGAN, every second in DM-GAN.
SCALE_DISCRIMINATOR_RULES = [
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
    return Conversion(DMGANScaleDiscriminator, rules + SCALE_DISCRIMINATOR_RULES, config, _iterate_spectral_norms)


SCALES = ("discriminator64", "discriminator128", "discriminator256")
FILES = {
    arch: Files(("generator", "text_encoder", "captions"), ("image_encoder", *SCALES), align_corners=True)
    for arch in ("attngan", "dmgan")
}
CONVERSIONS = {
    ("attngan", "generator"): Conversion(
        AttnGANGenerator,
        [*STACKED_GENERATOR_RULES, (r"att\.conv_context\.", "project_words.")],
        partial(_stacked_generator_config, AttnGANConfig),
        _unpack_word_projections,
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
}
