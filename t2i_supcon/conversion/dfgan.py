"""DF-GAN's generator and discriminator."""

from ..models import DFGANConfig, DFGANDiscriminator, DFGANGenerator
from .rules import FUSION_BLOCKS, PENALISED_BLOCKS, Conversion, Files, State, count_modules, shape_of, text_width


def _dfgan_generator_config(state: State, **known: object) -> DFGANConfig:
    _refuse_first_version(state)
    noise_dim = shape_of(state, "fc.weight", 2)[1]
    condition_dim = shape_of(state, "GBlocks.0.fuse1.affine0.fc_gamma.linear1.weight", 2)[1]
    return DFGANConfig(
        image_size=4 * 2 ** count_modules(state, "GBlocks."),
        noise_dim=noise_dim,
        generator_channels=shape_of(state, "to_rgb.1.weight", 4)[1],
        **text_width(condition_dim - noise_dim, known),
    )


def _dfgan_discriminator_config(state: State, **known: object) -> DFGANConfig:
    _refuse_first_version(state)
    blocks = count_modules(state, "netD.DBlocks.")
    last = shape_of(state, f"netD.DBlocks.{blocks - 1}.conv_r.2.weight", 4)[0]
    return DFGANConfig(
        image_size=4 * 2**blocks,
        discriminator_channels=shape_of(state, "netD.conv_img.weight", 4)[0],
        **text_width(shape_of(state, "netC.joint_conv.0.weight", 4)[1] - last, known),
    )


def _refuse_first_version(state: State) -> None:
    """Raises a ValueError where the network is that of the paper's first version, of 2020."""
    if old := [key for key in state if key.startswith(("block0.", "netD.block0.", "COND_DNET."))]:
        raise ValueError(
            f"it holds {old[0]}: this is the network of DF-GAN's first version (2020), which is not implemented here; "
            "take a file of the version of CVPR 2022, such as state_epoch_1220.pth"
        )


FILES = {
    "dfgan": Files(
        ("generator", "text_encoder", "captions"),
        ("image_encoder", "discriminator"),
        align_corners=False,
        licence="cc-by-nc-sa-4.0",
    )
}
CONVERSIONS = {
    ("dfgan", "generator"): Conversion(
        DFGANGenerator, [(r"^fc\.", "project_noise."), *FUSION_BLOCKS], _dfgan_generator_config
    ),
    ("dfgan", "discriminator"): Conversion(
        DFGANDiscriminator,
        [
            (r"^netD\.conv_img\.", "from_rgb."),
            (r"^netD\.DBlocks\.", "blocks."),
            (r"^netC\.joint_conv\.", "joint."),
            *PENALISED_BLOCKS,
        ],
        _dfgan_discriminator_config,
    ),
}
