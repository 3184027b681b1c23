"""SSA-GAN's generator and discriminator."""

from ..models import SSAGANConfig, SSAGANDiscriminator, SSAGANGenerator
from .rules import PENALISED_BLOCKS, Conversion, Files, State, count_modules, shape_of, text_width


def _ssagan_generator_config(state: State, **known: object) -> SSAGANConfig:
    return SSAGANConfig(
        image_size=4 * 2 ** (count_modules(state, "block") - 1),
        noise_dim=shape_of(state, "fc.weight", 2)[1],
        generator_channels=shape_of(state, "conv_img.0.weight", 1)[0],
        mask_channels=shape_of(state, "conv_mask.0.weight", 4)[0],
        **text_width(shape_of(state, "block0.affine0.fc_gamma.linear1.weight", 2)[1], known),
    )


def _ssagan_discriminator_config(state: State, **known: object) -> SSAGANConfig:
    last = shape_of(state, f"block{count_modules(state, 'block') - 1}.conv_r.2.weight", 4)[0]
    return SSAGANConfig(
        image_size=4 * 2 ** count_modules(state, "block"),
        discriminator_channels=shape_of(state, "conv_img.weight", 4)[0],
        **text_width(shape_of(state, "COND_DNET.joint_conv.0.weight", 4)[1] - last, known),
    )


FILES = {
    "ssagan": Files(("generator", "text_encoder", "captions"), ("image_encoder", "discriminator"), align_corners=False)
}
CONVERSIONS = {
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
            *PENALISED_BLOCKS,
            (r"^conv_img\.", "from_rgb."),
            (r"^COND_DNET\.joint_conv\.", "joint."),
        ],
        _ssagan_discriminator_config,
    ),
}
