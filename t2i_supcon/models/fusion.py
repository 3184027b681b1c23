"""The family of DF-GAN (Tao et al., arXiv 2008.05865): DF-GAN, SSA-GAN, GALIP.

A single generator draws the full size in one stage, and a single discriminator scores image and
sentence together, its gradient by both penalised. DF-GAN and SSA-GAN share the discriminator,
DF-GAN and GALIP how noise and sentence enter the generator's blocks.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig

from . import operators
from .base import DiscriminatorOutput, GANPreTrainedModel
from .blocks import ConstantLinear, GradfixConv2d, GradfixLeakyReLU, UpsampledConv2d, score_pairs
from .damsm import DAMSMTextConfig
from .sizes import check_sizes


@strict
class OneStageConfig(PreTrainedConfig):
    """Sizes of a generator and a discriminator whose maps double from 4 px and halve down to it.

    Args:
        image_size: side S of the images in pixels, 4 * 2^n.
        noise_dim: width Z of the noise.
        generator_channels: channels of the generator's last block; earlier blocks have up to 8
            times as many.
        discriminator_channels: channels of the discriminator's first layer; later blocks have more.
        initial_gamma: what blocks multiply their residual with at the start of training, which
            learns it. The published 0 switches the convolutions of a residual off at first; in a
            short training they stay nearly off.
        text_config: sizes of the text encoder whose embeddings condition both networks.
    """

    sub_configs_defaults = {"text_config": DAMSMTextConfig}

    image_size: int = 256
    noise_dim: int = 100
    generator_channels: int = 64
    discriminator_channels: int = 64
    initial_gamma: float = 0.0
    text_config: dict | PreTrainedConfig | None = None

    def validate_architecture(self):
        check_sizes(self)
        if self.image_size < 8 or self.image_size & (self.image_size - 1):
            raise ValueError(f"image_size is {self.image_size}; it must be a power of two, at least 8")

    @property
    def image_sizes(self) -> tuple[int, ...]:
        return (self.image_size,)

    @property
    def num_doublings(self) -> int:
        """How often 4 px double to reach `image_size`."""
        return (self.image_size // 4).bit_length() - 1

    @property
    def generator_widths(self) -> tuple[int, ...]:
        """Channels of the generator's map at 4 px, 8 px, ... and last at `image_size`."""
        n = self.num_doublings
        return tuple(self.generator_channels * min(8, 2 ** (n - i)) for i in range(n + 1))


class ConditionMLP(nn.Module):
    """One value per channel from noise and sentence; `start` for all of them at the start."""

    def __init__(self, condition_dim: int, channels: int, start: float):
        super().__init__()
        self.linear1 = nn.Linear(condition_dim, channels)
        self.linear2 = ConstantLinear(channels, channels, start)

    def forward(self, condition: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(condition)))[:, :, None, None]


class Affine(nn.Module):
    """Scales and shifts each channel as noise and sentence say."""

    def __init__(self, channels: int, condition_dim: int):
        super().__init__()
        self.scale = ConditionMLP(condition_dim, channels, start=1.0)
        self.shift = ConditionMLP(condition_dim, channels, start=0.0)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return torch.addcmul(self.shift(condition), self.scale(condition), x)


class FusionBlock(nn.Module):
    """Deep fusion of DF-GAN (arXiv 2008.05865, fig. 3): affine and activation, twice; acts on each
    pixel alone."""

    def __init__(self, channels: int, condition_dim: int):
        super().__init__()
        self.affines = nn.ModuleList(Affine(channels, condition_dim) for _ in range(2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for affine in self.affines:
            x = F.leaky_relu(affine(x, condition), 0.2)
        return x


class FusionGeneratorBlock(nn.Module):
    """Enlarges the map to `size`: shortcut(x) + conv(fuse(conv(fuse(x))))."""

    def __init__(self, in_channels: int, out_channels: int, condition_dim: int, size: int):
        super().__init__()
        self.size = size
        self.fuse1 = FusionBlock(in_channels, condition_dim)
        self.conv1 = UpsampledConv2d(in_channels, out_channels, 3, padding=1)
        self.fuse2 = FusionBlock(out_channels, condition_dim)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        size = (self.size, self.size)
        shortcut, x = operators.upsampled_shortcut(self.shortcut, x, size), self.fuse1(x, condition)
        return shortcut + self.conv2(self.fuse2(self.conv1(x, size), condition))


class HalvingBlock(nn.Module):
    """Halves the map: avgpool(shortcut(x)) + gamma * residual(x)."""

    def __init__(self, in_channels: int, out_channels: int, initial_gamma: float = 0.0):
        super().__init__()
        self.gamma, self.initial_gamma = nn.Parameter(torch.empty(1)), initial_gamma
        self.residual = nn.Sequential(
            GradfixConv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False),
            GradfixLeakyReLU(),
            GradfixConv2d(out_channels, out_channels, 3, padding=1, bias=False),
            GradfixLeakyReLU(),
        )
        self.shortcut = GradfixConv2d(in_channels, out_channels, 1)
        self.widens = in_channels != out_channels
        self.freeze()
        self.reset_parameters()

    def freeze(self) -> None:
        """Between equal widths the authors own the shortcut's convolution but never call it."""
        self.shortcut.requires_grad_(self.widens)

    def reset_parameters(self) -> None:
        nn.init.constant_(self.gamma, self.initial_gamma)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = operators.pooled_shortcut(self.shortcut if self.widens else nn.Identity(), x)
        return shortcut + self.gamma * self.residual(x)


class OneStageDiscriminator(GANPreTrainedModel):
    """Judges from the pixels whether an image is real and fits its sentence (one-way output of
    DF-GAN, section 3.4).

    A subclass names its `config_class` and `max_widening`, how many times the first layer's
    channels the widest blocks have.
    """

    config_class = OneStageConfig
    base_model_prefix = "discriminator"
    main_input_name = "images"
    reads_image_features = False
    adversarial = "hinge"
    max_widening: int

    def __init__(self, config: OneStageConfig):
        super().__init__(config)
        width = config.discriminator_channels
        widths = [width * min(self.max_widening, 2**i) for i in range(config.num_doublings + 1)]
        self.from_rgb = GradfixConv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(HalvingBlock(*pair, config.initial_gamma) for pair in zip(widths, widths[1:]))
        self.joint = nn.Sequential(
            GradfixConv2d(widths[-1] + config.text_config.hidden_size, 2 * width, 3, padding=1, bias=False),
            GradfixLeakyReLU(),
            GradfixConv2d(2 * width, 1, 4, bias=False),
        )
        self.post_init()

    def forward(
        self, images: Tensor | tuple[Tensor, ...], sent_emb: Tensor, wrong_sent_emb: Tensor | None = None
    ) -> DiscriminatorOutput:
        """Scores images with their captions and, sharing the image features, with wrong ones.

        Args:
            images: (B, 3, S, S) in [-1, 1], alone or as a tuple over scales whose last entry is
                used.
            sent_emb: (B, D), the images' own captions.
            wrong_sent_emb: (M, D) with M <= B, a caption of another image for each of the first M
                images.
        """
        x = images if isinstance(images, Tensor) else images[-1]
        x = self.from_rgb(x)  # (B, C, S, S)
        for block in self.blocks:
            x = block(x)  # (B, c, s, s) down to (B, c, 4, 4)
        return score_pairs(self.joint, x, sent_emb, wrong_sent_emb)
