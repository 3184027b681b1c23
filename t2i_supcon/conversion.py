"""The original authors' checkpoints as models of this package.

Each published file has one entry in `CONVERSIONS`: ordered rename rules, and a function that reads the sizes off the tensors' shapes.
"""

import math
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
    CLIPPairConfig,
    CLIPPairModel,
    DAMSMImageConfig,
    DAMSMImageEncoder,
    DAMSMTextConfig,
    DAMSMTextEncoder,
    DMGANConfig,
    DMGANGenerator,
    DMGANScaleDiscriminator,
    GALIPConfig,
    GALIPDiscriminator,
    GALIPGenerator,
    SSAGANConfig,
    SSAGANDiscriminator,
    SSAGANGenerator,
)

State = Mapping[str, Tensor]
Rules = list[tuple[str, str | Callable[[re.Match], str]]]

NOT_IN_OLD_FILES = ("num_batches_tracked", "pixel_mean", "pixel_std")


class Conversion(NamedTuple):
    """How one kind of file becomes a model.

    Attributes:
        model_class: what it becomes.
        rules: (regular expression, replacement as `re.sub` takes it) pairs, applied to each key in order.
        config: makes the model's config from the original state dict and what is known beyond it.
        unpack: what must happen to the tensors themselves before they are renamed.
    """

    model_class: type[PreTrainedModel]
    rules: Rules
    config: Callable[..., PreTrainedConfig]
    unpack: Callable[[State], State] = dict


def load_original(arch: str, part: str, state_dict: State, **known: object) -> PreTrainedModel:
    """Makes a model of an original state dict.

    Args:
        arch: "attngan", "dmgan", "ssagan", "galip" or "damsm".
        part: "text_encoder" or "image_encoder" (of any arch trained with DAMSM), "clip" (both towers of OpenAI's file), "generator",
            "discriminator" (SSA-GAN; GALIP: its two networks in one dict, keys `netD.*` and `netC.*`), "discriminator64",
            "discriminator128" or "discriminator256" (AttnGAN and DM-GAN: one scale of the discriminator).
        state_dict: the original's tensors by name, with or without the `module.` that DataParallel puts before each.
        known: config fields that shapes cannot tell, such as `align_corners` of the image encoder, or the attention heads of a CLIP tower
            as `image_config={"num_attention_heads": 12}`; published values when absent.

    Returns:
        The model in evaluation mode, every tensor loaded. Constants that the files never hold, and `num_batches_tracked`, which those of
        old torch versions lack, may be missing.

    Raises:
        ValueError: an arch and part that do not exist, a tensor whose shape contradicts the others, or keys that are missing or left
            over, each of them named.
    """
    if part in ("text_encoder", "image_encoder"):
        arch = "damsm"
    elif part == "clip":
        arch = "galip"
    if (arch, part) not in CONVERSIONS:
        raise ValueError(f"there is no conversion of {arch!r} {part!r}; known are {', '.join(' '.join(pair) for pair in CONVERSIONS)}")
    conversion = CONVERSIONS[arch, part]
    original = {re.sub(r"^(net[CD]\.)?module\.", r"\1", key): value for key, value in state_dict.items()}
    try:
        config = conversion.config(original, **known)
    except KeyError as error:
        raise ValueError(f"this is no {arch} {part}: its tensor {error} is missing; found {', '.join(list(original)[:5])}, ...") from error
    model = conversion.model_class(config)
    renamed = {rename(key, conversion.rules): value for key, value in conversion.unpack(original).items()}
    renamed = {key: value.to(torch.float32) if value.is_floating_point() else value for key, value in renamed.items()}
    own = model.state_dict()
    for key, value in own.items():
        if key.endswith(NOT_IN_OLD_FILES):
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


def _clip_config(state: State, **known: object) -> CLIPPairConfig:
    image, text = known.pop("image_config", {}), known.pop("text_config", {})
    vocab_size, context = state["token_embedding.weight"].shape[0], state["positional_embedding"].shape[0]
    text_fields = {
        **_transformer(state["positional_embedding"].shape[1], text),
        "intermediate_size": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": _count(state, "transformer.resblocks."),
        "projection_dim": state["text_projection"].shape[1],
        "max_position_embeddings": context,
        "vocab_size": vocab_size,
        "bos_token_id": vocab_size - 2,  # OpenAI's vocabulary ends with the two marks
        "eos_token_id": vocab_size - 1,
    }
    image_fields = _vision_fields(state, "visual.", image) | {"projection_dim": state["visual.proj"].shape[1]}
    return CLIPPairConfig(text_config=text_fields | text, image_config=image_fields | image, **known)


def _galip_generator_config(state: State, **known: object) -> GALIPConfig:
    image, text = known.pop("image_config", {}), known.pop("text_config", {})
    noise_dim = state["fc_code.weight"].shape[1]
    sentence = {"projection_dim": state["mapping.fc_prompt.weight"].shape[1] - noise_dim}
    tower = _vision_fields(state, "mapping.CLIP_ViT.", image)
    fields = {
        "image_size": tower["image_size"],  # the authors draw what their CLIP reads
        "noise_dim": noise_dim,
        "generator_channels": state["to_rgb.1.weight"].shape[1],
        "mapper_channels": state["mapping.conv_fuse.weight"].shape[1],
        "mapper_blocks": _count(state, "mapping.FBlocks."),
    }
    return GALIPConfig(text_config=sentence | text, image_config=tower | sentence | image, **(fields | known))


def _galip_discriminator_config(state: State, **known: object) -> GALIPConfig:
    image, text = known.pop("image_config", {}), known.pop("text_config", {})
    channels, width = state["netD.main.conv_s.weight"].shape[:2]
    score_channels, joined, kernel, _ = state["netC.joint_conv.0.weight"].shape
    grid = kernel + state["netC.joint_conv.2.weight"].shape[-1] - 1
    sentence = {"projection_dim": joined - channels}
    tower = {**_transformer(width, image), "image_size": 32 * grid, "patch_size": 32, "rescale_twice": True}
    fields = {"discriminator_channels": channels, "score_channels": score_channels}
    return GALIPConfig(text_config=sentence | text, image_config=tower | sentence | image, **(fields | known))


def _vision_fields(state: State, prefix: str, known: dict) -> dict:
    """Fields of `CLIPImageConfig` for OpenAI's vision tower under `prefix`, preprocessed as GALIP does."""
    width, _, patch_size, _ = state[f"{prefix}conv1.weight"].shape
    grid = math.isqrt(state[f"{prefix}positional_embedding"].shape[0] - 1)
    return {
        **_transformer(width, known),
        "intermediate_size": state[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": _count(state, f"{prefix}transformer.resblocks."),
        "image_size": patch_size * grid,
        "patch_size": patch_size,
        "rescale_twice": True,
    }


def _transformer(width: int, known: dict) -> dict:
    """Width, inner width and heads of a CLIP tower: all of OpenAI's have heads of 64 channels."""
    if width % 64 and "num_attention_heads" not in known:
        raise ValueError(f"a CLIP tower of width {width} is none of OpenAI's: name its num_attention_heads in text_config or image_config")
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // 64}


def _unpack_attention(state: State) -> State:
    """Splits OpenAI's fused projections into those of queries, keys and values."""
    unpacked = {}
    for key, value in state.items():
        if match := re.fullmatch(r"(.*\.attn\.)in_proj_(weight|bias)", key):
            unpacked |= {f"{match[1]}{name}_proj.{match[2]}": part for name, part in zip("qkv", value.chunk(3))}
        else:
            unpacked[key] = value
    return unpacked


def _unpack_clip(state: State) -> State:
    """Also turns the two projections into weights of linear layers, and drops the sizes that OpenAI's archives list as tensors."""
    kept = {key: value for key, value in state.items() if key not in ("input_resolution", "context_length", "vocab_size")}
    return _unpack_attention({key: value.T if key in ("visual.proj", "text_projection") else value for key, value in kept.items()})


def _stacked_generator_config(config_class: type[PreTrainedConfig], state: State, **known: object) -> PreTrainedConfig:
    conditioning_dim, text_dim = state["ca_net.fc.weight"].shape[0] // 4, state["ca_net.fc.weight"].shape[1]
    stages, single = _count(state, "h_net"), "img_net.img.0.weight" in state
    return config_class(
        image_size=4 * 2 ** (_count(state, r"h_net1\.upsample") + stages - 1),
        num_stages=stages,
        noise_dim=state["h_net1.fc.0.weight"].shape[1] - conditioning_dim,
        conditioning_dim=conditioning_dim,
        generator_channels=state["img_net.img.0.weight" if single else "img_net1.img.0.weight"].shape[1],
        num_residual_blocks=_count(state, r"h_net2\.residual\."),
        single_scale=single,
        **_text_width(text_dim, known),
    )


def _scale_discriminator_config(config_class: type[PreTrainedConfig], suffix: str, stages: int, state: State, **known: object) -> PreTrainedConfig:
    """Of the published scales: the last of `stages`, 64 px the lowest; `suffix` ends the names of convolution weights."""
    joint = state[f"COND_DNET.jointConv.0.{suffix}"]
    return config_class(
        image_size=64 << (stages - 1),
        num_stages=stages,
        discriminator_channels=state[f"img_code_s16.0.{suffix}"].shape[0],
        single_scale="UNCOND_DNET.outlogits.0.weight" not in state,
        **_text_width(joint.shape[1] - joint.shape[0], known),
    )


def _unpack_word_projections(state: State) -> State:
    """Turns AttnGAN's 1x1 convolutions over the words in a row into linear layers."""
    return {key: value.squeeze(-1) if key.endswith("conv_context.weight") else value for key, value in state.items()}


def _iterate_spectral_norms(state: State) -> State:
    """Takes the step of the power iteration that DM-GAN's first forward takes before it divides by u W v."""
    moved = dict(state)
    for key in state:
        if key.endswith("weight_bar"):
            prefix = key.removesuffix("weight_bar")
            matrix = state[key].float().flatten(1)
            v = F.normalize(matrix.T @ state[prefix + "weight_u"].float(), dim=0, eps=1e-12)
            moved |= {prefix + "weight_u": F.normalize(matrix @ v, dim=0, eps=1e-12), prefix + "weight_v": v}
    return moved


def _text_width(width: int, known: dict) -> dict:
    """Config fields with the text width read off the networks, unless the text encoder's own config is known."""
    return {"text_config": {"hidden_size": width}, **known}


def _count(state: State, prefix: str) -> int:
    """How many numbered submodules `prefix0`, `prefix1`, ... there are."""
    return len({match[1] for key in state if (match := re.match(rf"{prefix}(\d+)\.", key))})


CLIP_TOWER = [
    (r"transformer\.resblocks\.", "encoder.layers."),
    (r"\.attn\.", ".self_attn."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.(class_embedding|token_embedding\.weight)$", r".embeddings.\1"),
    (r"\.positional_embedding$", ".embeddings.position_embedding.weight"),
    (r"vision\.conv1\.", "vision.embeddings.patch_embedding."),
    (r"\.ln_pre\.", ".pre_layrnorm."),
    (r"\.ln_post\.", ".post_layernorm."),
    (r"\.ln_final\.", ".final_layer_norm."),
]


STACKED_GENERATOR_RULES = [
    (r"^ca_net\.fc\.", "conditioning.project."),
    (r"^h_net1\.fc\.", "first_stage.project."),
    (r"^h_net1\.upsample(\d)\.", lambda match: f"first_stage.upsample.{int(match[1]) - 1}."),
    (r"^h_net(\d)\.", lambda match: f"stages.{int(match[1]) - 2}."),
    (r"^img_net\.img\.", "heads.0."),
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
    return Conversion(DMGANScaleDiscriminator, rules + SCALE_DISCRIMINATOR_RULES, config, _iterate_spectral_norms)


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
    ("galip", "clip"): Conversion(
        CLIPPairModel,
        [
            (r"^visual\.proj$", "image_encoder.projection.weight"),
            (r"^text_projection$", "text_encoder.projection.weight"),
            (r"^visual\.", "image_encoder.vision."),
            (r"^(transformer|token_embedding|positional_embedding|ln_final)", r"text_encoder.text.\1"),
            *CLIP_TOWER,
        ],
        _clip_config,
        _unpack_clip,
    ),
    ("galip", "generator"): Conversion(
        GALIPGenerator,
        [
            (r"^fc_code\.", "project_noise."),
            (r"^mapping\.CLIP_ViT\.", "vision."),
            (r"^mapping\.FBlocks\.", "mapper."),
            (r"^mapping\.conv_fuse\.", "to_tokens."),
            (r"^mapping\.fc_prompt\.", "to_prompts."),
            (r"^mapping\.conv\.", "from_tokens."),
            (r"^GBlocks\.(\d+)\.c([12])\.", r"blocks.\1.conv\2."),
            (r"^GBlocks\.", "blocks."),
            (r"affine([01])\.", r"affines.\1."),
            (r"fc_gamma\.", "scale."),
            (r"fc_beta\.", "shift."),
            (r"c_sc\.", "shortcut."),
            *CLIP_TOWER,
        ],
        _galip_generator_config,
        _unpack_attention,
    ),
    ("galip", "discriminator"): Conversion(
        GALIPDiscriminator,
        [
            (r"^netD\.DBlocks\.", "blocks."),
            (r"^netD\.main\.", "last_block."),
            (r"^netC\.joint_conv\.", "joint."),
            (r"conv_r\.", "residual."),
            (r"conv_s\.", "shortcut."),
        ],
        _galip_discriminator_config,
    ),
}
