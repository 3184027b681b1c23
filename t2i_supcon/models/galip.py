"""GALIP: generative adversarial CLIPs (Tao et al., CVPR 2023, arXiv 2301.12959).

A frozen CLIP vision transformer sits inside the generator: noise and sentence make a map of visual
tokens and one prompt per block, the transformer turns them into a map of visual concepts, and
convolutions draw the image from it. The discriminator reads no pixels but the patch tokens of
several blocks of the same frozen transformer.

Differences from the authors' code: sizes are configurable and those of CLIP are read off its
config; what acts on each pixel alone runs before the nearest upsampling it commutes with; the
discriminator and the head that scores its features with a sentence are one network; logits come as
(B,). The shortcut convolutions that the authors' discriminator owns but never uses are kept,
frozen, so that their files load completely.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPVisionModel, PreTrainedConfig

from .base import DiscriminatorOutput, GANPreTrainedModel, GeneratorOutput, TextToImageModel
from .blocks import GradfixConv2d, GradfixLeakyReLU, score_pairs
from .clip import CLIPImageConfig, CLIPImageEncoder, CLIPTextEncoder
from .fusion import FusionBlock, FusionGeneratorBlock
from .sizes import check_sizes

BRIDGE_GAIN = 0.1  # of what the transformer adds to the tokens it was given


@strict
class GALIPConfig(PreTrainedConfig):
    """Sizes of GALIP's networks; the defaults are the published ones for CUB, COCO and CC12M.

    Args:
        image_size: side S of the images in pixels, any from 8 up; 224 is what CLIP reads.
        noise_dim: width Z of the noise.
        generator_channels: channels of the generator's last block; earlier blocks have up to 8
            times as many.
        mapper_channels: channels of the map that noise and sentence shape before it becomes tokens.
        mapper_blocks: number of blocks that shape it.
        prompt_layers: transformer blocks, counted from 0, that see one more token, made of noise
            and sentence.
        discriminator_channels: channels of the features that are joined with the sentence.
        score_channels: hidden channels of the head that scores them.
        initial_gamma: what the discriminator multiplies its residuals and the deeper blocks' tokens
            with before training, where it learns it; see `OneStageConfig`.
        text_config: sizes of the text tower whose sentences condition both networks.
        image_config: sizes of the vision tower, inside the generator and before the discriminator.
    """

    model_type = "galip"
    sub_configs_defaults = {"text_config": CLIPTextConfig, "image_config": CLIPImageConfig}

    image_size: int = 224
    noise_dim: int = 100
    generator_channels: int = 64
    mapper_channels: int = 64
    mapper_blocks: int = 4
    prompt_layers: list[int] | tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    discriminator_channels: int = 512
    score_channels: int = 128
    initial_gamma: float = 0.0
    text_config: dict | PreTrainedConfig | None = None
    image_config: dict | PreTrainedConfig | None = None

    def validate_architecture(self):
        check_sizes(self)
        blocks = self.image_config.num_hidden_layers
        if self.image_size < 8:
            raise ValueError(f"image_size is {self.image_size}; it must be at least 8")
        if self.mapper_channels % 2:
            raise ValueError(f"mapper_channels is {self.mapper_channels}; its blocks halve it, so it must be even")
        if not set(self.prompt_layers) <= set(range(blocks)):
            raise ValueError(
                f"prompt_layers are {list(self.prompt_layers)}; the vision tower has {blocks} blocks, counted from 0"
            )

    @property
    def image_sizes(self) -> tuple[int, ...]:
        return (self.image_size,)

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Side of the map after each generator block: 8, 16, 32, ... and last `image_size`."""
        doublings = (self.image_size - 1).bit_length() - 3
        return *(8 * 2**i for i in range(doublings)), self.image_size


class MapperBlock(nn.Module):
    """Shapes the map at its size: x + fuse(conv(fuse(conv(x)))), half as wide in between."""

    def __init__(self, channels: int, condition_dim: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.fuse1 = FusionBlock(channels // 2, condition_dim)
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, padding=1)
        self.fuse2 = FusionBlock(channels, condition_dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        residual = self.fuse1(self.conv1(x), condition)
        return x + self.fuse2(self.conv2(residual), condition)


class GALIPGenerator(GANPreTrainedModel):
    """Draws (B, 3, S, S) from noise and a sentence, through a frozen CLIP vision tower."""

    config_class = GALIPConfig
    base_model_prefix = "generator"
    main_input_name = "noise"
    _keys_to_ignore_on_load_unexpected = [r"^text_encoder\."]

    def __init__(self, config: GALIPConfig):
        super().__init__(config)
        vision = config.image_config
        condition_dim = config.noise_dim + config.text_config.projection_dim
        n = len(config.block_sizes)
        widths = [config.generator_channels * min(8, 2 ** (n - i)) for i in range(n + 1)]
        self.project_noise = nn.Linear(config.noise_dim, config.mapper_channels * vision.grid_size**2)
        self.mapper = nn.ModuleList(
            MapperBlock(config.mapper_channels, condition_dim) for _ in range(config.mapper_blocks)
        )
        self.to_tokens = nn.Conv2d(config.mapper_channels, vision.hidden_size, 5, padding=2)
        self.to_prompts = nn.Linear(condition_dim, len(config.prompt_layers) * vision.hidden_size)
        self.vision = CLIPVisionModel(vision)
        self.vision.post_layernorm = nn.Identity()  # it belongs to the image embedding, which is not computed here
        self.from_tokens = nn.Conv2d(vision.hidden_size, widths[0], 5, padding=2)
        self.blocks = nn.ModuleList(
            FusionGeneratorBlock(*pair, condition_dim, size)
            for *pair, size in zip(widths[:-1], widths[1:], config.block_sizes, strict=True)
        )
        self.to_rgb = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], 3, 3, padding=1))
        self.freeze()
        self.post_init()

    def freeze(self) -> None:
        """The vision tower is never trained here."""
        self.vision.requires_grad_(False)

    def copy_vision_tower(self, image_encoder: CLIPImageEncoder) -> None:
        """Takes over the weights of a trained image encoder: a generator made anew has a random
        tower."""
        state = image_encoder.vision.state_dict()
        self.vision.load_state_dict(
            {key: value for key, value in state.items() if not key.startswith("post_layernorm.")}
        )

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
            `images` ((B, 3, S, S),), trained towards [-1, 1] but not bounded: clamp before showing
                them.
        """
        grid = self.config.image_config.grid_size
        condition = torch.cat([noise, sent_emb], dim=1)  # (B, Z + D)
        x = self.project_noise(noise).unflatten(1, (-1, grid, grid))  # (B, C, g, g)
        for block in self.mapper:
            x = block(x, condition)
        bridge = self.to_tokens(x)  # (B, W, g, g)
        prompts = self.to_prompts(condition).unflatten(1, (len(self.config.prompt_layers), -1))  # (B, P, W)
        x = self.from_tokens(bridge + BRIDGE_GAIN * self.visual_concepts(bridge, prompts))  # (B, c, g, g)
        for block in self.blocks:
            x = block(x, condition)  # (B, c, s, s)
        return GeneratorOutput(images=(self.to_rgb(x),))

    def visual_concepts(self, bridge: Tensor, prompts: Tensor) -> Tensor:
        """The tower's patch tokens (B, W, g, g) for a map (B, W, g, g) in place of embedded patches
        and prompts (B, P, W), one per prompted block."""
        tower, grid = self.vision, self.config.image_config.grid_size
        start = tower.embeddings.class_embedding.expand(bridge.shape[0], 1, -1)
        x = torch.cat([start, bridge.flatten(2).mT], dim=1)  # (B, 1 + g*g, W)
        x = tower.pre_layrnorm(x + tower.embeddings.position_embedding.weight)
        prompt_of = dict(zip(self.config.prompt_layers, prompts.split(1, dim=1), strict=True))
        for number, block in enumerate(tower.encoder.layers):
            if number in prompt_of:
                x = block(torch.cat([x, prompt_of[number]], dim=1), None)[:, :-1]
            else:
                x = block(x, None)
        return x[:, 1:].mT.unflatten(2, (grid, grid))


class GALIPDiscriminatorBlock(nn.Module):
    """shortcut(x) + gamma * residual(x), plus beta times the tokens of a deeper block of the tower,
    where there are any."""

    def __init__(self, in_channels: int, out_channels: int, reads_tokens: bool, initial_gamma: float):
        super().__init__()
        self.gamma, self.initial_gamma = nn.Parameter(torch.empty(1)), initial_gamma
        self.beta = nn.Parameter(torch.empty(1)) if reads_tokens else None
        self.residual = nn.Sequential(
            GradfixConv2d(in_channels, out_channels, 3, padding=1, bias=False),
            GradfixLeakyReLU(),
            GradfixConv2d(out_channels, out_channels, 3, padding=1, bias=False),
            GradfixLeakyReLU(),
        )
        self.shortcut = GradfixConv2d(in_channels, out_channels, 1)
        self.changes_width = in_channels != out_channels
        self.freeze()
        self.reset_parameters()

    def freeze(self) -> None:
        """Between equal widths the authors own the shortcut's convolution but never call it."""
        self.shortcut.requires_grad_(self.changes_width)

    def reset_parameters(self) -> None:
        for factor in (self.gamma, self.beta):
            if factor is not None:
                nn.init.constant_(factor, self.initial_gamma)

    def forward(self, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        shortcut = self.shortcut(x) if self.changes_width else x
        x = shortcut + self.gamma * self.residual(x)
        return x if tokens is None else x + self.beta * tokens


class GALIPDiscriminator(GANPreTrainedModel):
    """Judges from an image's CLIP features whether it is real and fits its sentence."""

    config_class = GALIPConfig
    base_model_prefix = "discriminator"
    main_input_name = "features"
    adversarial = "hinge"
    reads_image_features = True

    def __init__(self, config: GALIPConfig):
        super().__init__(config)
        width, grid = config.image_config.hidden_size, config.image_config.grid_size
        channels = config.discriminator_channels
        self.blocks = nn.ModuleList(
            GALIPDiscriminatorBlock(width, width, reads_tokens=True, initial_gamma=config.initial_gamma)
            for _ in config.image_config.feature_layers[1:]
        )
        self.last_block = GALIPDiscriminatorBlock(
            width, channels, reads_tokens=False, initial_gamma=config.initial_gamma
        )
        first = grid // 2 + 1  # two unpadded convolutions take the grid to one value: 7 -> 4 -> 1
        self.joint = nn.Sequential(
            GradfixConv2d(channels + config.text_config.projection_dim, config.score_channels, first, bias=False),
            GradfixLeakyReLU(),
            GradfixConv2d(config.score_channels, 1, grid - first + 1, bias=False),
        )
        self.post_init()

    def forward(self, features: Tensor, sent_emb: Tensor, wrong_sent_emb: Tensor | None = None) -> DiscriminatorOutput:
        """Scores images with their captions and, sharing the image features, with wrong ones.

        Args:
            features: (B, n, W, g, g), `local_feats` of the frozen image encoder.
            sent_emb: (B, D), the images' own captions.
            wrong_sent_emb: (M, D) with M <= B, a caption of another image for each of the first M
                images.
        """
        x = features[:, 0]  # (B, W, g, g)
        for block, tokens in zip(self.blocks, features[:, 1:].unbind(dim=1), strict=True):
            x = block(x, tokens)
        x = self.last_block(x)  # (B, c, g, g)
        return score_pairs(self.joint, x, sent_emb, wrong_sent_emb)


class GALIPForTextToImage(TextToImageModel):
    """GALIP's generator with the CLIP text tower it was trained with."""

    config_class = GALIPConfig
    text_encoder_class = CLIPTextEncoder
    generator_class = GALIPGenerator
