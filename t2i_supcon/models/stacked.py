"""The family of StackGAN++ (Zhang et al., arXiv 1710.10916) with word attention: AttnGAN, DM-GAN.

A first stage draws a small image from noise and sentence; each further stage refines its features
with the words and doubles the side. Every scale has its own discriminator. The two GANs differ in
the refining stage and in the layers of the discriminators.
"""

from collections import OrderedDict

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from transformers import PreTrainedConfig
from transformers import initialization as init

from . import operators
from .base import DiscriminatorOutput, GANPreTrainedModel, GeneratorOutput
from .blocks import UpsampledConv2d, score_pairs
from .damsm import DAMSMTextConfig
from .sizes import check_sizes


@strict
class StackedConfig(PreTrainedConfig):
    """Sizes of stacked generators and discriminators.

    Args:
        image_size: side S of the final images in pixels, a power of two.
        num_stages: stages, and so scales; each doubles the side of the one before it.
        noise_dim: width Z of the noise.
        conditioning_dim: width C of the condition that conditioning augmentation draws around the
            sentence.
        conditioning_std: factor on the noise of that draw; 0 conditions on the mean itself.
        generator_channels: channels of the features that every stage hands on.
        discriminator_channels: channels of each discriminator's first layer.
        num_residual_blocks: residual blocks of each refining stage.
        single_scale: only the last stage draws an image, and one discriminator without a head for
            the image alone judges it, as in the AttnDCGAN of AttnGAN's authors.
        text_config: sizes of the text encoder whose embeddings condition all networks.
    """

    sub_configs_defaults = {"text_config": DAMSMTextConfig}

    image_size: int = 256
    num_stages: int = 3
    noise_dim: int = 100
    conditioning_dim: int = 100
    conditioning_std: float = 1.0
    generator_channels: int = 32
    discriminator_channels: int = 64
    num_residual_blocks: int = 2
    single_scale: bool = False
    text_config: dict | PreTrainedConfig | None = None

    def validate_architecture(self):
        check_sizes(self)
        smallest = 8 * 2 ** (self.num_stages - 1)
        if self.image_size < smallest or self.image_size & (self.image_size - 1):
            raise ValueError(
                f"image_size is {self.image_size}; {self.num_stages} stages need a power of two, at least {smallest}"
            )

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Sides of all scales that are drawn, from low to high."""
        return tuple(self.image_size >> i for i in reversed(range(1 if self.single_scale else self.num_stages)))

    @property
    def base_doublings(self) -> int:
        """How often 4 px double to reach the size of the first stage."""
        return (self.image_size >> (self.num_stages + 1)).bit_length() - 1


class ChannelGLU(nn.Module):
    """First half of the channels times the sigmoid of the second."""

    def forward(self, x: Tensor) -> Tensor:
        return operators.channel_glu(x)


class WideConv2d(nn.Conv2d):
    """A convolution for discriminators, whose last layers have many channels and few pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return operators.wide_conv2d(x, self.weight, self.bias, self.stride, self.padding)


class StackedModel(GANPreTrainedModel):
    """A model that starts as the authors' do: orthogonal weights, BatchNorm weights from N(1,
    0.02), no bias in linear layers."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            init.normal_(module.weight, 1.0, 0.02)
        elif isinstance(module, ParametrizationList):
            init.orthogonal_(module.original)
            _start_spectral_norm(module)
        elif hasattr(module, "_u"):
            # spectral normalisation; visited without its weight where a file lacks the vectors only
            _start_spectral_norm(
                next(m for m in self.modules() if isinstance(m, ParametrizationList) and m[0] is module)
            )
        elif isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and not is_parametrized(module, "weight"):
            init.orthogonal_(module.weight)
            if isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)


def _start_spectral_norm(weight: ParametrizationList) -> None:
    """Sets the singular vectors as the constructor of torch's spectral normalisation does, for the
    weight as it is now."""
    matrix, norm = weight.original.flatten(1), weight[0]
    v = F.normalize(torch.randn_like(norm._v), dim=0)
    for _ in range(15):
        u = F.normalize(matrix @ v, dim=0)
        v = F.normalize(matrix.T @ u, dim=0)
    init.copy_(norm._u, u)
    init.copy_(norm._v, v)


def up_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Doubles the side: (B, C, s, s) to (B, C', 2s, 2s)."""
    layers = (
        UpsampledConv2d(in_channels, 2 * out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * out_channels),
        ChannelGLU(),
    )
    # counted as the authors do, whose upsampling is a layer of its own
    return nn.Sequential(OrderedDict(zip("123", layers)))


def image_head(channels: int) -> nn.Sequential:
    """Draws (B, 3, s, s) in [-1, 1] from features (B, C, s, s)."""
    return nn.Sequential(nn.Conv2d(channels, 3, 3, padding=1, bias=False), nn.Tanh())


class ResidualBlock(nn.Module):
    """x + residual(x), nothing after the sum."""

    def __init__(self, channels: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * channels),
            ChannelGLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


class ConditioningAugmentation(nn.Module):
    """Draws the condition from a normal distribution around a projection of the sentence (StackGAN,
    arXiv 1612.03242, section 3.2)."""

    def __init__(self, text_dim: int, conditioning_dim: int, std: float = 1.0):
        super().__init__()
        self.std = std
        self.project = nn.Linear(text_dim, 4 * conditioning_dim)

    def forward(self, sent_emb: Tensor, conditioning_noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Condition, mean and log-variance, each (B, C), of sentences (B, D); `conditioning_noise`
        (B, C) is drawn when absent."""
        mu, logvar = F.glu(self.project(sent_emb), dim=1).chunk(2, dim=1)  # (B, C) each
        if conditioning_noise is None:
            conditioning_noise = torch.randn_like(mu)
        return mu + self.std * conditioning_noise * (logvar / 2).exp(), mu, logvar


class FirstStage(nn.Module):
    """Features of the lowest scale from condition and noise."""

    def __init__(self, config: StackedConfig):
        super().__init__()
        widths = [config.generator_channels * 2**i for i in reversed(range(config.base_doublings + 1))]
        features = 2 * widths[0] * 4 * 4
        self.project = nn.Sequential(
            nn.Linear(config.conditioning_dim + config.noise_dim, features, bias=False),
            nn.BatchNorm1d(features),
            nn.GLU(dim=1),
        )
        self.upsample = nn.Sequential(*(up_block(*pair) for pair in zip(widths, widths[1:])))

    def forward(self, condition: Tensor, noise: Tensor) -> Tensor:
        x = self.project(torch.cat([condition, noise], dim=1))  # (B, 4 * 4 * C')
        return self.upsample(x.unflatten(1, (-1, 4, 4)))  # (B, C, s, s)


def masked_softmax(scores: Tensor, attention_mask: Tensor) -> Tensor:
    """Softmax over the real words of each caption: (B, T, R) scores, (B, T) mask with 1 = real
    word."""
    return scores.masked_fill(attention_mask[:, :, None] == 0, float("-inf")).softmax(dim=1)


def attend_to_words(queries: Tensor, keys: Tensor, values: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """What each place of the feature map reads from the words, by unscaled dot products.

    Args:
        queries: (B, C, s, s).
        keys, values: (B, C, T).
        attention_mask: (B, T), 1 = real word.

    Returns:
        Read values (B, C, s, s), and the attention (B, T, s, s), which sums to one over the words.
    """
    size = queries.shape[2:]
    scores = keys.transpose(1, 2) @ queries.flatten(2)  # (B, T, s*s)
    attention = masked_softmax(scores, attention_mask)
    # (B, s*s, C), which is channels_last: a feature map it is joined with keeps its layout
    read = attention.mT @ values.mT
    return read.mT.unflatten(2, size), attention.unflatten(2, size)


class StackedGenerator(StackedModel):
    """Draws an image per scale; a subclass names the `stage_class` that refines features with the
    words."""

    base_model_prefix = "generator"
    main_input_name = "noise"
    _keys_to_ignore_on_load_unexpected = [r"^text_encoder\."]
    stage_class: type[nn.Module]

    def __init__(self, config: StackedConfig):
        super().__init__(config)
        self.conditioning = ConditioningAugmentation(
            config.text_config.hidden_size, config.conditioning_dim, config.conditioning_std
        )
        self.first_stage = FirstStage(config)
        self.stages = nn.ModuleList(self.stage_class(config) for _ in range(config.num_stages - 1))
        # of the last stages
        self.heads = nn.ModuleList(image_head(config.generator_channels) for _ in config.image_sizes)
        self.post_init()

    def forward(
        self,
        noise: Tensor,
        sent_emb: Tensor,
        word_embs: Tensor | None = None,
        attention_mask: Tensor | None = None,
        conditioning_noise: Tensor | None = None,
        num_scales: int | None = None,
    ) -> GeneratorOutput:
        """Draws one image per row and scale.

        Args:
            noise: (B, Z).
            sent_emb: (B, D).
            word_embs: (B, T, D).
            attention_mask: (B, T), 1 = real word, at least one in each row; all ones when absent.
            conditioning_noise: (B, C), the normal draw of conditioning augmentation; drawn here
                when absent.
            num_scales: how many scales to draw, from the lowest; all when absent.

        Returns:
            `images` in [-1, 1] from low to high, `mu` and `logvar` (B, C), `attentions` (B, T, s,
            s), one per stage after the first.

        Raises:
            ValueError: no words to attend to, or `num_scales` is not one to as many as there are.
        """
        if word_embs is None:
            raise ValueError(f"{type(self).__name__} attends to words: word_embs is missing")
        if num_scales is not None and not 1 <= num_scales <= len(self.heads):
            raise ValueError(f"num_scales is {num_scales}; it must be from 1 to {len(self.heads)}")
        if attention_mask is None:
            attention_mask = word_embs.new_ones(word_embs.shape[:2])
        words = word_embs.transpose(1, 2)  # (B, D, T)
        condition, mu, logvar = self.conditioning(sent_emb, conditioning_noise)  # (B, C)
        heads = self.heads[:num_scales]
        hidden, attentions = [self.first_stage(condition, noise)], []  # (B, c, s, s) of each stage
        for stage in self.stages[: len(self.stages) - len(self.heads) + len(heads)]:
            refined, attention = stage(hidden[-1], words, attention_mask)  # (B, c, 2s, 2s), (B, T, s, s)
            hidden.append(refined)
            attentions.append(attention)
        images = tuple(head(features) for head, features in zip(heads, hidden[-len(heads) :], strict=True))
        return GeneratorOutput(images=images, mu=mu, logvar=logvar, attentions=tuple(attentions))


class ScaleDiscriminator(StackedModel):
    """Judges images of one scale, alone and with a sentence; a subclass says in `block` what its
    layers are.

    Every scale ends in (B, c, 4, 4) with the width of the lowest one: each doubling beyond it adds
    a halving and a narrowing.

    Args:
        config: of the whole GAN.
        image_size: side of this scale, one of the config's `image_sizes`; the highest when absent.
    """

    base_model_prefix = "discriminator"
    main_input_name = "images"

    def __init__(self, config: StackedConfig, image_size: int | None = None):
        super().__init__(config)
        doublings = ((image_size or config.image_size) // 4).bit_length() - 1
        widths = [config.discriminator_channels * 2**i for i in range(doublings)]
        narrowed = widths[config.base_doublings - 1 :][::-1]  # down to the width of the lowest scale
        first = self.block(3, widths[0], kernel_size=4, stride=2, sees_image=True)
        self.down = nn.Sequential(
            first, *(self.block(*pair, kernel_size=4, stride=2) for pair in zip(widths, widths[1:]))
        )
        self.narrow = nn.Sequential(*(self.block(*pair, kernel_size=3) for pair in zip(narrowed, narrowed[1:])))
        self.joint = self.block(narrowed[-1] + config.text_config.hidden_size, narrowed[-1], kernel_size=3)
        self.cond_head = nn.Conv2d(narrowed[-1], 1, 4)
        self.uncond_head = None if config.single_scale else nn.Conv2d(narrowed[-1], 1, 4)
        self.post_init()

    @staticmethod
    def block(
        in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, sees_image: bool = False
    ) -> nn.Sequential:
        """A convolution with padding 1, normalised in the GAN's own way, and LeakyReLU;
        `sees_image` marks the first one."""
        raise NotImplementedError

    def forward(self, images: Tensor, sent_emb: Tensor, wrong_sent_emb: Tensor | None = None) -> DiscriminatorOutput:
        """Scores (B, 3, S, S) images with captions (B, D), with M <= B wrong captions (M, D), and,
        with that head, alone; tuples of one tensor."""
        features = self.narrow(self.down(images))  # (B, c, 4, 4)
        scores = score_pairs(lambda joined: self.cond_head(self.joint(joined)), features, sent_emb, wrong_sent_emb)
        if self.uncond_head is not None:
            scores.uncond = (self.uncond_head(features).flatten(),)
        return scores


class StackedDiscriminator(StackedModel):
    """One discriminator per scale; a subclass names their `scale_class`."""

    base_model_prefix = "discriminator"
    main_input_name = "images"
    adversarial = "bce"
    reads_image_features = False
    scale_class: type[ScaleDiscriminator]

    def __init__(self, config: StackedConfig):
        super().__init__(config)
        self.scales = nn.ModuleList(self.scale_class(config, size) for size in config.image_sizes)
        self.post_init()

    def forward(
        self, images: tuple[Tensor, ...], sent_emb: Tensor, wrong_sent_emb: Tensor | None = None
    ) -> DiscriminatorOutput:
        """Scores the images of each scale with their captions, with wrong ones and alone; image
        features are computed once.

        Args:
            images: (B, 3, s, s) in [-1, 1] per scale, from low to high.
            sent_emb: (B, D), the images' own captions.
            wrong_sent_emb: (M, D) with M <= B, a caption of another image for each of the first M
                images.

        Raises:
            ValueError: another number of images than scales.
        """
        if len(images) != len(self.scales):
            raise ValueError(f"there are images of {len(images)} scales; this discriminator judges {len(self.scales)}")
        scores = [scale(image, sent_emb, wrong_sent_emb) for scale, image in zip(self.scales, images)]
        wrong = tuple(score.wrong[0] for score in scores) if wrong_sent_emb is not None else None
        uncond = None if self.config.single_scale else tuple(score.uncond[0] for score in scores)
        return DiscriminatorOutput(cond=tuple(score.cond[0] for score in scores), wrong=wrong, uncond=uncond)
