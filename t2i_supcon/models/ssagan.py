"""SSA-GAN: semantic-spatial aware GAN (Liao et al., CVPR 2022, arXiv 2104.00567).

One generator and one discriminator at the full resolution. Every generator block normalises its
features, then scales and shifts them by the sentence, but only where a mask predicted from the
previous block's features allows it.

Differences from the authors' code: image size and widths are configurable; the 1x1 shortcut runs
before the nearest upsampling it commutes with; logits come as (B,). The shortcut convolutions that
the authors' discriminator owns but never uses are kept, frozen, so that their files load
completely.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from . import operators
from .base import GANPreTrainedModel, GeneratorOutput, TextToImageModel
from .blocks import ConstantLinear
from .damsm import DAMSMTextEncoder
from .fusion import OneStageConfig, OneStageDiscriminator


@strict
class SSAGANConfig(OneStageConfig):
    """Sizes of SSA-GAN's networks; the defaults are the published ones for CUB and COCO.

    Args:
        mask_channels: hidden channels of the mask predictors.
        others: see `OneStageConfig`; the discriminator has up to 16 times its first layer's
            channels.
    """

    model_type = "ssagan"

    mask_channels: int = 100


def mask_head(channels: int, hidden: int) -> nn.Sequential:
    """Predicts mask logits (B, 1, h, w) from features (B, C, h, w)."""
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, 1, 1)
    )


class SentenceMLP(nn.Module):
    """One value per channel from the sentence; zero at the start."""

    def __init__(self, text_dim: int, channels: int):
        super().__init__()
        self.linear1 = nn.Linear(text_dim, text_dim)
        self.linear2 = ConstantLinear(text_dim, channels, start=0.0)

    def forward(self, sent_emb: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(sent_emb)))[:, :, None, None]


class SemanticSpatialNorm(nn.Module):
    """Semantic-spatial condition batch normalisation (eq. 5-6): y = BN(x) + mask * (scale * BN(x) +
    shift)."""

    def __init__(self, channels: int, text_dim: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = SentenceMLP(text_dim, channels)
        self.shift = SentenceMLP(text_dim, channels)

    def forward(self, x: Tensor, sent_emb: Tensor, mask: Tensor) -> Tensor:
        return operators.masked_affine(self.norm(x), self.scale(sent_emb), self.shift(sent_emb), mask)


class SSAGeneratorBlock(nn.Module):
    """Semantic-spatial aware block (fig. 3): upsample, then x + gamma *
    conv(norm(conv(norm(x))))."""

    def __init__(self, in_channels: int, out_channels: int, config: SSAGANConfig, upsample: bool, predicts_mask: bool):
        super().__init__()
        text_dim = config.text_config.hidden_size
        self.upsample = upsample
        self.gamma, self.initial_gamma = nn.Parameter(torch.empty(1)), config.initial_gamma
        self.norm1 = SemanticSpatialNorm(in_channels, text_dim)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = SemanticSpatialNorm(out_channels, text_dim)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.mask_head = mask_head(out_channels, config.mask_channels) if predicts_mask else None
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.gamma, self.initial_gamma)

    def forward(self, x: Tensor, sent_emb: Tensor, mask: Tensor) -> Tensor:
        size = mask.shape[2:]  # of this block's output
        shortcut = operators.upsampled_shortcut(self.shortcut, x, size)
        if self.upsample:
            x = F.interpolate(x, size=size, mode="nearest")
        x = self.conv1(F.relu(self.norm1(x, sent_emb, mask), inplace=True))
        x = self.conv2(F.relu(self.norm2(x, sent_emb, mask), inplace=True))
        return shortcut + self.gamma * x


class SSAGANGenerator(GANPreTrainedModel):
    """Draws (B, 3, S, S) from noise and a sentence; the noise enters at 4 x 4 only."""

    config_class = SSAGANConfig
    base_model_prefix = "generator"
    main_input_name = "noise"
    _keys_to_ignore_on_load_unexpected = [r"^text_encoder\."]

    def __init__(self, config: SSAGANConfig):
        super().__init__(config)
        n, widths = config.num_doublings, config.generator_widths
        self.project_noise = nn.Linear(config.noise_dim, widths[0] * 4 * 4)
        self.mask_head = mask_head(widths[0], config.mask_channels)
        self.blocks = nn.ModuleList(
            SSAGeneratorBlock(widths[max(i - 1, 0)], widths[i], config, upsample=i > 0, predicts_mask=i < n)
            for i in range(n + 1)
        )
        self.to_rgb = nn.Sequential(
            nn.BatchNorm2d(widths[-1]), nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], 3, 3, padding=1), nn.Tanh()
        )
        self.post_init()

    def forward(
        self,
        noise: Tensor,
        sent_emb: Tensor,
        word_embs: Tensor | None = None,
        attention_mask: Tensor | None = None,
        conditioning_noise: Tensor | None = None,
    ) -> GeneratorOutput:
        """Draws one image per row.

        Args:
            noise: (B, Z).
            sent_emb: (B, D).
            word_embs, attention_mask, conditioning_noise: accepted as from any generator here, not
                used by this one.

        Returns:
            `images` ((B, 3, S, S) in [-1, 1],) and `masks`, one per block from 4 px to S.
        """
        x = self.project_noise(noise).unflatten(1, (-1, 4, 4))  # (B, 8C, 4, 4)
        mask_logits = self.mask_head(x)  # (B, 1, 4, 4)
        masks = []
        for block in self.blocks:
            if block.upsample:
                mask_logits = F.interpolate(mask_logits, scale_factor=2, mode="bilinear", align_corners=True)
            masks.append(torch.sigmoid(mask_logits))  # (B, 1, s, s)
            x = block(x, sent_emb, masks[-1])  # (B, c, s, s)
            if block.mask_head is not None:
                mask_logits = block.mask_head(x)
        return GeneratorOutput(images=(self.to_rgb(x),), masks=tuple(masks))


class SSAGANDiscriminator(OneStageDiscriminator):
    """Judges whether an image is real and fits its sentence."""

    config_class = SSAGANConfig
    max_widening = 16


class SSAGANForTextToImage(TextToImageModel):
    """SSA-GAN's generator with the DAMSM text encoder it was trained with."""

    config_class = SSAGANConfig
    text_encoder_class = DAMSMTextEncoder
    generator_class = SSAGANGenerator
