"""DF-GAN: deep fusion GAN (Tao et al., CVPR 2022, arXiv 2008.05865).

One generator and one discriminator at the full resolution, without any normalisation. Every
generator block scales and shifts its features by noise and sentence, four times over.

Written from the paper and from facts about the authors' code, of which nothing is used here: that
code and the files its authors published are under CC BY-NC-SA 4.0. Differences from it: sizes are
configurable; what acts on each pixel alone runs before the nearest upsampling it commutes with; the
discriminator and the head that scores its features with a sentence are one network; logits come as
(B,). The shortcut convolutions that the authors' discriminator owns but never uses are kept,
frozen, so that their files load completely. The network of the paper's first version, which their
older files hold, is another one.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from .base import GANPreTrainedModel, GeneratorOutput, TextToImageModel
from .damsm import DAMSMTextEncoder
from .fusion import FusionGeneratorBlock, OneStageConfig, OneStageDiscriminator


@strict
class DFGANConfig(OneStageConfig):
    """Sizes of DF-GAN's networks; the defaults are the published ones for CUB and COCO. The
    discriminator has up to 8 times its first layer's channels.

    Args:
        others: see `OneStageConfig`.
    """

    model_type = "dfgan"

    generator_channels: int = 32
    discriminator_channels: int = 32


class DFGANGenerator(GANPreTrainedModel):
    """Draws (B, 3, S, S) from noise and a sentence."""

    config_class = DFGANConfig
    base_model_prefix = "generator"
    main_input_name = "noise"
    _keys_to_ignore_on_load_unexpected = [r"^text_encoder\."]

    def __init__(self, config: DFGANConfig):
        super().__init__(config)
        widths = config.generator_widths
        condition_dim = config.noise_dim + config.text_config.hidden_size
        self.project_noise = nn.Linear(config.noise_dim, widths[0] * 4 * 4)
        self.blocks = nn.ModuleList(
            FusionGeneratorBlock(*pair, condition_dim, size=8 << i) for i, pair in enumerate(zip(widths, widths[1:]))
        )
        self.to_rgb = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], 3, 3, padding=1), nn.Tanh())
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
            `images` ((B, 3, S, S) in [-1, 1],).
        """
        condition = torch.cat([noise, sent_emb], dim=1)  # (B, Z + D)
        x = self.project_noise(noise).unflatten(1, (-1, 4, 4))  # (B, 8C, 4, 4)
        for block in self.blocks:
            x = block(x, condition)  # (B, c, s, s)
        return GeneratorOutput(images=(self.to_rgb(x),))


class DFGANDiscriminator(OneStageDiscriminator):
    """Judges whether an image is real and fits its sentence."""

    config_class = DFGANConfig
    max_widening = 8


class DFGANForTextToImage(TextToImageModel):
    """DF-GAN's generator with the DAMSM text encoder it was trained with.

    Its authors evaluate with noise redrawn beyond 2 and then multiplied by 0.88, another rule than
    `truncation` of `generate`, which redraws beyond its bound; to follow them, give `noise`.
    """

    config_class = DFGANConfig
    text_encoder_class = DAMSMTextEncoder
    generator_class = DFGANGenerator
