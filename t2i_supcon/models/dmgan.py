"""DM-GAN: dynamic memory for text-to-image synthesis (Zhu et al., CVPR 2019, arXiv 1904.01310).

The refining stages write the words into a memory, as far as the image drawn so far calls for them,
read it at every place of the feature map, and let a gate choose between what was read and what was
there.

Differences from the authors' code: image size and number of stages are configurable; each caption
is masked by its own length (theirs mixes up the masks of a batch whose captions differ in length);
discriminators return logits (B,); their spectral normalisation is torch's, which iterates in
training only, once at each forward, and ends half an iteration later.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

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
class DMGANConfig(StackedConfig):
    """Sizes of DM-GAN's networks; see `StackedConfig` for the fields.

    The defaults are the published ones for CUB. COCO: num_residual_blocks 3.
    """

    model_type = "dmgan"

    generator_channels: int = 64
    discriminator_channels: int = 32


class MemoryStage(nn.Module):
    """Writes and reads the dynamic memory (section 3.2), refines the features, and doubles the
    side."""

    def __init__(self, config: DMGANConfig):
        super().__init__()
        channels, text_dim = config.generator_channels, config.text_config.hidden_size
        self.word_relevance = nn.Linear(text_dim, 1, bias=False)
        self.image_relevance = nn.Linear(channels, 1, bias=False)
        self.write_words = nn.Conv1d(text_dim, 2 * channels, 1)
        self.write_image = nn.Conv1d(channels, 2 * channels, 1)
        self.key = nn.Conv1d(2 * channels, channels, 1)
        self.value = nn.Conv1d(2 * channels, channels, 1)
        self.response_gate = nn.Conv2d(2 * channels, 1, 1)
        self.residual = nn.Sequential(*(ResidualBlock(2 * channels) for _ in range(config.num_residual_blocks)))
        self.upsample = up_block(2 * channels, channels)

    def forward(self, hidden: Tensor, words: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, c, 2s, 2s) and attention (B, T, s, s) from features (B, c, s, s) and words
        (B, D, T)."""
        memory = self.write(hidden, words)  # (B, 2c, T)
        keys, values = F.relu(self.key(memory)), F.relu(self.value(memory))  # (B, c, T)
        response, attention = attend_to_words(hidden, keys, values, attention_mask)  # (B, c, s, s), (B, T, s, s)
        gate = torch.sigmoid(self.response_gate(torch.cat([hidden, response], dim=1)))  # (B, 1, s, s), eq. 8
        hidden = hidden * (1 - gate) + response * gate  # eq. 9
        x = self.residual(torch.cat([hidden, hidden], dim=1))  # (B, 2c, s, s)
        return self.upsample(x), attention

    def write(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Memory (B, 2c, T): each word mixed with the whole image, by a gate that weighs one
        against the other (eq. 3-4)."""
        image = hidden.detach().mean(dim=(2, 3))  # (B, c); the authors let no gradient through it
        relevance = self.word_relevance(words.transpose(1, 2)) + self.image_relevance(image)[:, None]  # (B, T, 1)
        gate = torch.sigmoid(relevance).transpose(1, 2)  # (B, 1, T)
        from_words = F.relu(self.write_words(words))  # (B, 2c, T)
        from_image = F.relu(self.write_image(image[:, :, None]))  # (B, 2c, 1)
        return from_words * gate + from_image * (1 - gate)


class DMGANGenerator(StackedGenerator):
    """Draws an image per scale; every stage after the first reads a memory of the words."""

    config_class = DMGANConfig
    stage_class = MemoryStage


class DMGANScaleDiscriminator(ScaleDiscriminator):
    """Judges images of one scale; spectrally normalised convolutions, except in the heads."""

    config_class = DMGANConfig

    @staticmethod
    def block(
        in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, sees_image: bool = False
    ) -> nn.Sequential:
        return nn.Sequential(
            spectral_norm(WideConv2d(in_channels, out_channels, kernel_size, stride, padding=1)), nn.LeakyReLU(0.2)
        )


class DMGANDiscriminator(StackedDiscriminator):
    """One spectrally normalised discriminator per scale."""

    config_class = DMGANConfig
    scale_class = DMGANScaleDiscriminator


class DMGANForTextToImage(TextToImageModel):
    """DM-GAN's generator with the DAMSM text encoder it was trained with."""

    config_class = DMGANConfig
    text_encoder_class = DAMSMTextEncoder
    generator_class = DMGANGenerator
