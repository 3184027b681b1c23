"""GALIP's generator and discriminator, and OpenAI's CLIP, around which they were trained."""

import math
import re

from ..models import CLIPPairConfig, CLIPPairModel, GALIPConfig, GALIPDiscriminator, GALIPGenerator
from .rules import FUSION_BLOCKS, PENALISED_BLOCKS, Conversion, Files, State, count_modules, shape_of


def _clip_config(state: State, **known: object) -> CLIPPairConfig:
    image, text = known.pop("image_config", {}), known.pop("text_config", {})
    vocab_size = shape_of(state, "token_embedding.weight", 2)[0]
    context, width = shape_of(state, "positional_embedding", 2)
    text_fields = {
        **_transformer(width, text),
        "intermediate_size": shape_of(state, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": count_modules(state, "transformer.resblocks."),
        "projection_dim": shape_of(state, "text_projection", 2)[1],
        "max_position_embeddings": context,
        "vocab_size": vocab_size,
        "bos_token_id": vocab_size - 2,  # OpenAI's vocabulary ends with the two marks
        "eos_token_id": vocab_size - 1,
    }
    image_fields = _vision_fields(state, "visual.", image) | {"projection_dim": shape_of(state, "visual.proj", 2)[1]}
    return CLIPPairConfig(text_config=text_fields | text, image_config=image_fields | image, **known)


def _galip_generator_config(state: State, **known: object) -> GALIPConfig:
    image, text = known.pop("image_config", {}), known.pop("text_config", {})
    noise_dim = shape_of(state, "fc_code.weight", 2)[1]
    sentence = {"projection_dim": shape_of(state, "mapping.fc_prompt.weight", 2)[1] - noise_dim}
    tower = _vision_fields(state, "mapping.CLIP_ViT.", image)
    fields = {
        "image_size": tower["image_size"],  # the authors draw what their CLIP reads
        "noise_dim": noise_dim,
        "generator_channels": shape_of(state, "to_rgb.1.weight", 4)[1],
        "mapper_channels": shape_of(state, "mapping.conv_fuse.weight", 4)[1],
        "mapper_blocks": count_modules(state, "mapping.FBlocks."),
    }
    return GALIPConfig(text_config=sentence | text, image_config=tower | sentence | image, **(fields | known))


def _galip_discriminator_config(state: State, **known: object) -> GALIPConfig:
    image, text = known.pop("image_config", {}), known.pop("text_config", {})
    channels, width, _, _ = shape_of(state, "netD.main.conv_s.weight", 4)
    score_channels, joined, kernel, _ = shape_of(state, "netC.joint_conv.0.weight", 4)
    grid = kernel + shape_of(state, "netC.joint_conv.2.weight", 4)[-1] - 1
    sentence = {"projection_dim": joined - channels}
    tower = {**_transformer(width, image), "image_size": 32 * grid, "patch_size": 32, "rescale_twice": True}
    fields = {"discriminator_channels": channels, "score_channels": score_channels}
    return GALIPConfig(text_config=sentence | text, image_config=tower | sentence | image, **(fields | known))


def _vision_fields(state: State, prefix: str, known: dict) -> dict:
    """Fields of `CLIPImageConfig` for OpenAI's vision tower under `prefix`, preprocessed as GALIP
    does."""
    width, _, patch_size, _ = shape_of(state, f"{prefix}conv1.weight", 4)
    grid = math.isqrt(shape_of(state, f"{prefix}positional_embedding", 2)[0] - 1)
    return {
        **_transformer(width, known),
        "intermediate_size": shape_of(state, f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": count_modules(state, f"{prefix}transformer.resblocks."),
        "image_size": patch_size * grid,
        "patch_size": patch_size,
        "rescale_twice": True,
    }


def _transformer(width: int, known: dict) -> dict:
    """Width, inner width and heads of a CLIP tower: all of OpenAI's have heads of 64 channels."""
    if width % 64 and "num_attention_heads" not in known:
        raise ValueError(
            f"a CLIP tower of width {width} is none of OpenAI's: name its num_attention_heads in "
            "text_config or image_config"
        )
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
    """Also turns the two projections into weights of linear layers, and drops the sizes that
    OpenAI's archives list as tensors."""
    kept = {
        key: value for key, value in state.items() if key not in ("input_resolution", "context_length", "vocab_size")
    }
    return _unpack_attention(
        {key: value.T if key in ("visual.proj", "text_projection") else value for key, value in kept.items()}
    )


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

FILES = {"galip": Files(("generator", "clip", "tokenizer"), ("discriminator",))}
CONVERSIONS = {
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
            *FUSION_BLOCKS,
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
            *PENALISED_BLOCKS,
        ],
        _galip_discriminator_config,
    ),
}
