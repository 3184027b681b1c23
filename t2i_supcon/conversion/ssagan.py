"""SSA-GAN's generator and discriminator."""

from ..models import SSAGANConfig, SSAGANDiscriminator, SSAGANGenerator
from .rules import Conversion, State, count_modules, text_width


def _ssagan_generator_config(state: State, **known: object) -> SSAGANConfig:
    return SSAGANConfig(
        image_size=4 * 2 ** (count_modules(state, "block") - 1),
        noise_dim=state["fc.weight"].shape[1],
        generator_channels=state["conv_img.0.weight"].shape[0],
        mask_channels=state["conv_mask.0.weight"].shape[0],
        **text_width(state["block0.affine0.fc_gamma.linear1.weight"].shape[1], known),
    )


def _ssagan_discriminator_config(state: State, **known: object) -> SSAGANConfig:
    last = state[f"block{count_modules(state, 'block') - 1}.conv_r.2.weight"].shape[0]
    return SSAGANConfig(
        image_size=4 * 2 ** count_modules(state, "block"),
        discriminator_channels=state["conv_img.weight"].shape[0],
        **text_width(state["COND_DNET.joint_conv.0.weight"].shape[1] - last, known),
    )


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
            (r"conv_r\.", "residual."),
            (r"conv_s\.", "shortcut."),
            (r"^conv_img\.", "from_rgb."),
            (r"^COND_DNET\.joint_conv\.", "joint."),
        ],
        _ssagan_discriminator_config,
    ),
}
