"""What every network here shares: the output types, the initialisation policy and the text-to-image
composite."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput


@dataclass
class TextEmbeddings(ModelOutput):
    """Text in the space it shares with images.

    Attributes:
        sent_emb: (B, D), one vector per caption.
        word_embs: (B, T, D), one vector per word, zero where `attention_mask` is 0.
        attention_mask: (B, T), 1 = real word.
    """

    sent_emb: Tensor | None = None
    word_embs: Tensor | None = None
    attention_mask: Tensor | None = None


@dataclass
class ImageEmbeddings(ModelOutput):
    """Images in the space they share with text.

    Attributes:
        image_emb: (B, D), one vector per image.
        region_feats: (B, D, h, w), one vector per region, from the encoders that embed regions.
        local_feats: (B, n, W, g, g), patch features of n intermediate layers in their own width,
            from the encoders that expose them.
    """

    image_emb: Tensor | None = None
    region_feats: Tensor | None = None
    local_feats: Tensor | None = None


@dataclass
class GeneratorOutput(ModelOutput):
    """What a generator draws.

    Attributes:
        images: one (B, 3, S, S) tensor in [-1, 1] per scale, from low to high.
        mu, logvar: (B, C) of conditioning augmentation, for the generators that have it.
        attentions: word attention (B, T, s, s) per stage after the first, for the generators that
            attend to words.
        masks: (B, 1, s, s) in [0, 1] per block, where the text may change the picture, for the
            generators that predict masks.
    """

    images: tuple[Tensor, ...] | None = None
    mu: Tensor | None = None
    logvar: Tensor | None = None
    attentions: tuple[Tensor, ...] | None = None
    masks: tuple[Tensor, ...] | None = None


@dataclass
class DiscriminatorOutput(ModelOutput):
    """Logits (never probabilities), one (B,) tensor per scale.

    Attributes:
        cond: image with its own caption.
        wrong: the first M images with the M wrong captions given.
        uncond: image alone, for the discriminators that have that head.
    """

    cond: tuple[Tensor, ...] | None = None
    wrong: tuple[Tensor, ...] | None = None
    uncond: tuple[Tensor, ...] | None = None


class GANPreTrainedModel(PreTrainedModel):
    """A `PreTrainedModel` that keeps the initialisation its layers were built with.

    The library's default would draw every convolution anew with std 0.02. Here each module that
    owns parameters says in `reset_parameters` how they start (as torch's own layers do), and the
    same method restores what a checkpoint lacks. The library guards the `torch.nn.init` functions
    while this runs, so that tensors already loaded are left alone; only BatchNorm writes its
    buffers without them.

    Loading makes every parameter trainable again; a module that keeps some frozen therefore has a
    `freeze` method, called here.
    """

    main_input_name = "input_ids"
    _supports_sdpa = True  # for the towers that attend; the choice made here is handed down to them

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for module in model.modules():
            if hasattr(module, "freeze"):
                module.freeze()
        return loaded

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.affine:
                init.ones_(module.weight)
                init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()


class TextToImageModel(GANPreTrainedModel):
    """A text encoder and a generator that together draw pictures from token ids.

    A subclass names its `config_class`, `text_encoder_class` and `generator_class`; one saved
    folder serves the composite and both parts.
    """

    base_model_prefix = "generator"
    text_encoder_class: type[PreTrainedModel]
    generator_class: type[PreTrainedModel]

    def __init__(self, config):
        super().__init__(config)
        self.text_encoder = self.text_encoder_class(config.text_config)
        self.generator = self.generator_class(config)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, noise: Tensor | None = None
    ) -> GeneratorOutput:
        """Draws one image per caption.

        Args:
            input_ids: (B, T) token ids.
            attention_mask: (B, T), 1 = real token; all ones when absent.
            noise: (B, Z); drawn from N(0, 1) when absent.
        """
        text = self.text_encoder(input_ids, attention_mask)
        if noise is None:
            noise = torch.randn(
                len(input_ids), self.config.noise_dim, device=text.sent_emb.device, dtype=text.sent_emb.dtype
            )
        return self.generator(noise, text.sent_emb, text.word_embs, text.attention_mask)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        num_images_per_prompt: int = 1,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        truncation: float | None = None,
        output_attentions: bool = False,
    ) -> GeneratorOutput:
        """Draws images for B captions; rows come prompt by prompt.

        Args:
            input_ids: (B, T) token ids.
            attention_mask: (B, T), 1 = real token; all ones when absent.
            num_images_per_prompt: N images for each caption.
            noise: (B * N, Z); drawn from N(0, 1) when absent.
            generator: source of the noise, also of conditioning augmentation's; the same seed on
                the same device gives the same images.
            truncation: redraws noise values beyond this bound (typical: 0.5 to 2; less variety,
                cleaner images).
            output_attentions: whether to return where each word was read or where the text may
                change the picture.

        Returns:
            Output whose tensors have B * N rows, images clamped to [-1, 1]. With
            `output_attentions` it holds what the generator has:
            `attentions`, (B * N, T, s, s) per refining stage, which sum to one over the real words
            and are zero at padding, or
            `masks`, (B * N, 1, s, s) in [0, 1] per block. Both are None without it.

        Raises:
            ValueError: noise of another shape, a truncation that is not positive, or attentions
                asked of a generator that has neither.
        """
        text = self.text_encoder(input_ids, attention_mask)
        rows = len(input_ids) * num_images_per_prompt
        shape = (rows, self.config.noise_dim)
        if noise is None:
            noise = sample_noise(shape, generator, truncation).to(text.sent_emb)
        elif tuple(noise.shape) != shape:
            raise ValueError(
                f"noise has shape {tuple(noise.shape)}; {len(input_ids)} prompts x {num_images_per_prompt} "
                f"images need {shape}"
            )
        extra = {}
        if hasattr(
            self.config, "conditioning_dim"
        ):  # drawn here, not inside the generator, so that the seed decides it too
            extra["conditioning_noise"] = sample_noise((rows, self.config.conditioning_dim), generator, truncation).to(
                text.sent_emb
            )
        each = [
            t.repeat_interleave(num_images_per_prompt, dim=0)
            for t in (text.sent_emb, text.word_embs, text.attention_mask)
        ]
        output = self.generator(noise, *each, **extra)
        if output_attentions and not (output.attentions or output.masks):
            raise ValueError(
                f"{type(self).__name__} has no attentions to return: its generator neither attends to words "
                "nor predicts masks"
            )
        maps = {"attentions": output.attentions, "masks": output.masks} if output_attentions else {}
        return GeneratorOutput(
            images=tuple(image.clamp(-1, 1) for image in output.images), mu=output.mu, logvar=output.logvar, **maps
        )


def sample_noise(
    shape: tuple[int, int], generator: torch.Generator | None = None, truncation: float | None = None
) -> Tensor:
    """Draws N(0, 1) of shape (B, Z), redrawing values beyond `truncation` where that is given."""
    device = generator.device if generator is not None else "cpu"
    noise = torch.randn(shape, generator=generator, device=device)
    if truncation is None:
        return noise
    if truncation <= 0:
        raise ValueError(f"truncation is {truncation}; it must be positive")
    while (beyond := noise.abs() > truncation).any():
        noise[beyond] = torch.randn(int(beyond.sum()), generator=generator, device=device)
    return noise
