"""CLIP (Radford et al., ICML 2021, arXiv 2103.00020) as the pair of encoders that GALIP is
conditioned on and judged by.

The towers are transformers' own; this file gives them the package's inputs and outputs, and adds
the intermediate image features of GALIP.

Differences from transformers' CLIP: pixel values come in [-1, 1] and of any size; the sentence is
read at the last real token, which is the end-of-text token wherever the tokenizer writes one, so
that other tokenizers work too.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel, PreTrainedConfig
from transformers import initialization as init

from .base import GANPreTrainedModel, ImageEmbeddings, TextEmbeddings
from .sizes import check_sizes

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@strict
class CLIPImageConfig(CLIPVisionConfig):
    """Sizes of the image tower; the defaults are those of ViT-B/32 as GALIP uses it.

    Args:
        feature_layers: blocks, counted from 0, whose patch tokens come out as local features.
        rescale_twice: repeats GALIP's preprocessing, which maps [-1, 1] to [0, 1] and then, once
            more, to [0.5, 1] before it subtracts CLIP's mean. Networks trained by its authors need
            it; it is wrong for everything else.
    """

    model_type = "clip_image"
    base_config_key = "image_config"

    feature_layers: list[int] | tuple[int, ...] = (1, 4, 8)
    rescale_twice: bool = False

    def validate_architecture(self):
        check_sizes(self)
        super().validate_architecture()
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size is {self.image_size}; it must be a multiple of patch_size, {self.patch_size}")
        if not self.feature_layers or not set(self.feature_layers) <= set(range(self.num_hidden_layers)):
            raise ValueError(
                f"feature_layers are {list(self.feature_layers)}; they must name some of the "
                f"{self.num_hidden_layers} blocks from 0"
            )

    @property
    def grid_size(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size


@strict
class CLIPPairConfig(PreTrainedConfig):
    """Both towers; their `projection_dim` must agree.

    Args:
        logit_scale_init: logarithm of the contrastive loss's scale at the start, log(1 / 0.07).
    """

    model_type = "clip_pair"
    sub_configs_defaults = {"text_config": CLIPTextConfig, "image_config": CLIPImageConfig}

    logit_scale_init: float = 2.6592
    text_config: dict | PreTrainedConfig | None = None
    image_config: dict | PreTrainedConfig | None = None

    def validate_architecture(self):
        check_sizes(self)
        text, image = self.text_config.projection_dim, self.image_config.projection_dim
        if text != image:
            raise ValueError(
                f"text_config.projection_dim is {text} but image_config.projection_dim is {image}; both "
                "towers share one space"
            )


class CLIPTextEncoder(GANPreTrainedModel):
    """Causal transformer over tokens: one vector per token and one per sentence."""

    config_class = CLIPTextConfig
    base_model_prefix = "text_encoder"
    _keys_to_ignore_on_load_unexpected = [r"^(generator|image_encoder)\.", r"^logit_scale$"]

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.text = CLIPTextModel(config)
        self.projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.projection:
            init.normal_(module.weight, std=self.config.hidden_size**-0.5)

    def get_input_embeddings(self) -> nn.Module:
        return self.text.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text.set_input_embeddings(value)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> TextEmbeddings:
        """Embeds captions.

        Args:
            input_ids: (B, T) token ids, padded on the right, T at most `max_position_embeddings`.
            attention_mask: (B, T), 1 = real token, at least one in each row. When absent, a row
                ends with its first `eos_token_id` or, where that is the padding's, before it;
                without one, at T.

        Returns:
            sent_emb (B, D): the projected state of the last real token, not normalised; word_embs
                (B, T, W): the token states before the
            projection, of the tower's own width, zero at padding.

        Raises:
            ValueError: a row without any token, or more tokens than the tower has positions for.
        """
        if attention_mask is None:
            ends = (input_ids == self.config.eos_token_id).long()
            own = 0 if self.config.eos_token_id == self.config.pad_token_id else ends  # the end is a token of its own
            attention_mask = (ends.cumsum(dim=1) - own == 0).long()
        last = attention_mask.sum(dim=1) - 1  # (B,)
        if not torch.compiler.is_exporting() and (input_ids.shape[1] == 0 or (last < 0).any()):
            raise ValueError("a caption has no token: every row of attention_mask needs at least one 1")
        words = self.text(
            input_ids
        ).last_hidden_state  # (B, T, W); causal, so padding on the right changes no real token
        sentence = self.projection(words[torch.arange(words.shape[0], device=words.device), last])  # (B, D)
        return TextEmbeddings(
            sent_emb=sentence, word_embs=words * attention_mask[..., None].to(words), attention_mask=attention_mask
        )


class CLIPImageEncoder(GANPreTrainedModel):
    """Vision transformer: one vector per image, and the patch tokens of some of its blocks."""

    config_class = CLIPImageConfig
    base_model_prefix = "image_encoder"
    main_input_name = "pixel_values"
    embeds_regions = False
    _keys_to_ignore_on_load_unexpected = [r"^text_encoder\.", r"^logit_scale$"]

    def __init__(self, config: CLIPImageConfig):
        super().__init__(config)
        self.vision = CLIPVisionModel(config)
        self.projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        self.pixel_mean = nn.Buffer(torch.tensor(PIXEL_MEAN)[:, None, None])
        self.pixel_std = nn.Buffer(torch.tensor(PIXEL_STD)[:, None, None])
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.projection:
            init.normal_(module.weight, std=self.config.hidden_size**-0.5)
        elif module is self:
            init.copy_(self.pixel_mean, torch.tensor(PIXEL_MEAN)[:, None, None])
            init.copy_(self.pixel_std, torch.tensor(PIXEL_STD)[:, None, None])

    @property
    def trunk(self) -> CLIPVisionModel:
        """All but the projection."""
        return self.vision

    def forward(self, pixel_values: Tensor) -> ImageEmbeddings:
        """Embeds images.

        Args:
            pixel_values: (B, 3, H, W) in [-1, 1], of any size; resized (nearest) and rescaled to
                CLIP's statistics here.

        Returns:
            image_emb (B, D), not normalised, and local_feats (B, n, W, g, g), the g x g patch
            tokens after each of the n `feature_layers`.
        """
        size, grid = self.config.image_size, self.config.grid_size
        x = F.interpolate(pixel_values, size=(size, size), mode="nearest") * 0.5 + 0.5  # (B, 3, S, S) in [0, 1]
        if self.config.rescale_twice:
            x = (x + 1) * 0.5
        output = self.vision((x - self.pixel_mean) / self.pixel_std, output_hidden_states=True)
        # (B, n, g*g, W)
        states = torch.stack([output.hidden_states[layer + 1][:, 1:] for layer in self.config.feature_layers], dim=1)
        return ImageEmbeddings(
            image_emb=self.projection(output.pooler_output), local_feats=states.mT.unflatten(-1, (grid, grid))
        )


class CLIPPairModel(GANPreTrainedModel):
    """Both towers, saved and loaded together, with the scale of their contrastive loss."""

    config_class = CLIPPairConfig
    base_model_prefix = "clip"

    def __init__(self, config: CLIPPairConfig):
        super().__init__(config)
        self.text_encoder = CLIPTextEncoder(config.text_config)
        self.image_encoder = CLIPImageEncoder(config.image_config)
        # the loss multiplies cosines with its exponential
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.constant_(self.logit_scale, self.config.logit_scale_init)

    @classmethod
    def from_clip(cls, clip: CLIPModel) -> "CLIPPairModel":
        """Takes over sizes and weights of transformers' own class, in evaluation mode; local
        features come from those of the usual blocks that it has."""
        shared = {"projection_dim": clip.config.projection_dim}
        towers = {"text_config": clip.config.text_config.to_dict(), "image_config": clip.config.vision_config.to_dict()}
        for fields in towers.values():
            fields.pop("model_type")
        text, image = towers.values()
        if text["eos_token_id"] == 2:  # as older files have it, whose marks are the last ids of the vocabulary
            text["eos_token_id"] = text["vocab_size"] - 1
        depth = image["num_hidden_layers"]
        image["feature_layers"] = [n for n in CLIPImageConfig.feature_layers if n < depth] or [depth - 1]
        model = cls(CLIPPairConfig(**{name: fields | shared for name, fields in towers.items()}))
        model.text_encoder.text.load_state_dict(clip.text_model.state_dict())
        model.image_encoder.vision.load_state_dict(clip.vision_model.state_dict())
        model.text_encoder.projection.load_state_dict(clip.text_projection.state_dict())
        model.image_encoder.projection.load_state_dict(clip.visual_projection.state_dict())
        with torch.no_grad():
            model.logit_scale.copy_(clip.logit_scale)
        return model.eval()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None, pixel_values: Tensor
    ) -> tuple[TextEmbeddings, ImageEmbeddings]:
        """Embeds captions (B, T) and images (B, 3, H, W)."""
        return self.text_encoder(input_ids, attention_mask), self.image_encoder(pixel_values)
