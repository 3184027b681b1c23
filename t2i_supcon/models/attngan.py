"""AttnGAN: text to image with attention to words (Xu et al., CVPR 2018, arXiv 1711.10485).

The refining stages attend to the words: every place of the feature map reads from the words most
like it.

Differences from the authors' code: image size and number of stages are configurable; each caption
is masked by its own length (theirs mixes up the masks of a batch whose captions differ in length);
discriminators return logits (B,).
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from .base import TextToImageModel
from .damsm import DAMSMTextEncoder
from .stacked import (
    ResidualBlock,
    ScaleDiscriminator,
    StackedConfig,
    StackedDiscriminator,
    StackedGenerator,
    WideConv2d,
    attend_to_words,
    up_block,
)


@strict
class AttnGANConfig(StackedConfig):
    """Sizes of AttnGAN's networks; see `StackedConfig` for the fields.

    The defaults are the published ones for CUB. COCO: generator_channels 48, discriminator_channels
    96, num_residual_blocks 3. AttnDCGAN, published for CUB: single_scale, num_residual_blocks 0.
    """

    model_type = "attngan"


class AttentionStage(nn.Module):
    """Attends to the words (eq. 2), refines features and context together, and doubles the side."""

    def __init__(self, config: AttnGANConfig):
        super().__init__()
        channels = config.generator_channels
        self.project_words = nn.Conv1d(config.text_config.hidden_size, channels, 1, bias=False)
        self.residual = nn.Sequential(*(ResidualBlock(2 * channels) for _ in range(config.num_residual_blocks)))
        self.upsample = up_block(2 * channels, channels)

    def forward(self, hidden: Tensor, words: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, c, 2s, 2s) and attention (B, T, s, s) from features (B, c, s, s) and words
        (B, D, T)."""
        projected = self.project_words(words)  # (B, c, T), keys and values alike
        context, attention = attend_to_words(hidden, projected, projected, attention_mask)  # (B, c, s, s), (B, T, s, s)
        x = self.residual(torch.cat([hidden, context], dim=1))  # (B, 2c, s, s)
        return self.upsample(x), attention


class AttnGANGenerator(StackedGenerator):
    """Draws an image per scale; every stage after the first attends to the words."""

    config_class = AttnGANConfig
    stage_class = AttentionStage


class AttnGANScaleDiscriminator(ScaleDiscriminator):
    """Judges images of one scale; batch-normalised convolutions."""

    config_class = AttnGANConfig

    @staticmethod
    def block(
        in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, sees_image: bool = False
    ) -> nn.Sequential:
        conv = WideConv2d(in_channels, out_channels, kernel_size, stride, padding=1, bias=False)
        norm = [] if sees_image else [nn.BatchNorm2d(out_channels)]
        return nn.Sequential(conv, *norm, nn.LeakyReLU(0.2))


class AttnGANDiscriminator(StackedDiscriminator):
    """One batch-normalised discriminator per scale."""

    config_class = AttnGANConfig
    scale_class = AttnGANScaleDiscriminator


class AttnGANForTextToImage(TextToImageModel):
    """AttnGAN's generator with the DAMSM text encoder it was trained with."""

    config_class = AttnGANConfig
    text_encoder_class = DAMSMTextEncoder
    generator_class = AttnGANGenerator
