"""DAMSM: the deep attentional multimodal similarity model of AttnGAN (Xu et al., CVPR 2018, arXiv
1711.10485, section 3.2).

A bi-LSTM embeds words and sentences, Inception-v3 embeds regions and whole images, both into one
space. The GANs here are conditioned on, and judged by, these two towers once they are trained and
frozen.

Differences from the authors' code: captions may come in any order of lengths; widths and input size
are configurable.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers import initialization as init

from .base import GANPreTrainedModel, ImageEmbeddings, TextEmbeddings
from .inception import MIN_SIZE, InceptionTrunk
from .sizes import check_sizes


@strict
class DAMSMTextConfig(PreTrainedConfig):
    """Sizes of the bi-LSTM text encoder; the defaults are the published ones.

    Args:
        vocab_size: V, words including the padding token 0.
        embedding_dim: width of the word table.
        hidden_size: D, width of word and sentence embeddings, even: half from each direction.
        dropout: on word vectors, in training only.
        gain: factor on all embeddings. The LSTM's own may be far smaller than the noise of size 1
            that generators draw beside them.
    """

    model_type = "damsm_text"
    base_config_key = "text_config"

    vocab_size: int = 5450
    embedding_dim: int = 300
    hidden_size: int = 256
    dropout: float = 0.5
    gain: float = 1.0

    def validate_architecture(self):
        check_sizes(self)
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size is {self.hidden_size}; the two LSTM directions share it, so it must be even")


@strict
class DAMSMImageConfig(PreTrainedConfig):
    """Sizes of the Inception image encoder; the defaults are the published ones.

    Args:
        hidden_size: D, width of region and image embeddings.
        image_size: side in pixels that images are resized to on their way in.
        channel_divisor: divides every channel count of Inception-v3.
        align_corners: of the bilinear resize. AttnGAN as its authors ran it and DM-GAN: true.
            SSA-GAN, AttnGAN+CL: false.
    """

    model_type = "damsm_image"
    base_config_key = "image_config"

    hidden_size: int = 256
    image_size: int = 299
    channel_divisor: int = 1
    align_corners: bool = False

    def validate_architecture(self):
        check_sizes(self)
        if self.image_size < MIN_SIZE:
            raise ValueError(f"image_size is {self.image_size}; Inception-v3 needs at least {MIN_SIZE}")
        if self.channel_divisor not in (1, 2, 4, 8, 16):
            raise ValueError(f"channel_divisor is {self.channel_divisor}; it must be 1, 2, 4, 8 or 16")


@strict
class DAMSMConfig(PreTrainedConfig):
    """Both towers; their `hidden_size` must agree."""

    model_type = "damsm"
    sub_configs_defaults = {"text_config": DAMSMTextConfig, "image_config": DAMSMImageConfig}

    text_config: dict | PreTrainedConfig | None = None
    image_config: dict | PreTrainedConfig | None = None

    def validate_architecture(self):
        check_sizes(self)
        text, image = self.text_config.hidden_size, self.image_config.hidden_size
        if text != image:
            raise ValueError(
                f"text_config.hidden_size is {text} but image_config.hidden_size is {image}; both towers "
                "share one space"
            )


class DAMSMTextEncoder(GANPreTrainedModel):
    """Bi-LSTM over words: one vector per word and one per sentence."""

    config_class = DAMSMTextConfig
    base_model_prefix = "text_encoder"
    _input_embed_layer = "embedding"
    _keys_to_ignore_on_load_unexpected = [r"^(generator|image_encoder)\."]

    def __init__(self, config: DAMSMTextConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.lstm = nn.LSTM(config.embedding_dim, config.hidden_size // 2, batch_first=True, bidirectional=True)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.embedding:
            init.uniform_(module.weight, -0.1, 0.1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> TextEmbeddings:
        """Embeds captions, in any order of lengths.

        Args:
            input_ids: (B, T) word ids, padded on the right.
            attention_mask: (B, T), 1 = real word, at least one in each row; all ones when absent.

        Returns:
            sent_emb (B, D): last forward state and last backward state; word_embs (B, T, D), zero
                at padding.

        Raises:
            ValueError: a row without any word.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        x = F.dropout(self.embedding(input_ids), self.config.dropout, self.training)  # (B, T, E)
        if torch.compiler.is_exporting():
            words, sentence = lstm_without_packing(self.lstm, x, attention_mask)
        else:
            words, sentence = self.run_lstm(x, attention_mask)
        gain = self.config.gain
        return TextEmbeddings(sent_emb=gain * sentence, word_embs=gain * words, attention_mask=attention_mask)

    def run_lstm(self, x: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, T, D) of the words (B, T, E), zero at padding, and of the sentence (B, D)."""
        lengths = attention_mask.sum(dim=1).cpu()
        if x.shape[1] == 0 or (lengths == 0).any():
            raise ValueError("a caption has no word: every row of attention_mask needs at least one 1")
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        with torch.autocast(x.device.type, enabled=False):  # under bf16 too, cuDNN's LSTM would run in fp16
            words, (last, _) = self.lstm(packed)
        words, _ = nn.utils.rnn.pad_packed_sequence(words, batch_first=True, total_length=x.shape[1])  # (B, T, D)
        return words, last.transpose(0, 1).flatten(1)


def lstm_without_packing(lstm: nn.LSTM, x: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """What `DAMSMTextEncoder.run_lstm` computes, for an export, which can follow neither packed
    rows nor a look at values.

    The backward direction reads each row reversed within its own length.
    """
    lengths = attention_mask.sum(dim=1, keepdim=True)  # (B, 1)
    steps = torch.arange(x.shape[1], device=x.device)[None]
    mirrored = torch.where(steps < lengths, lengths - 1 - steps, steps)[..., None]  # (B, T, 1)
    start = x.new_zeros(1, x.shape[0], lstm.hidden_size)

    def states(inputs: Tensor, weights: list[Tensor]) -> Tensor:
        return torch.lstm(inputs, (start, start), weights, True, 1, 0.0, False, False, True)[0]  # (B, T, D / 2)

    def gathered(inputs: Tensor, places: Tensor) -> Tensor:
        return inputs.gather(1, places.expand(-1, -1, inputs.shape[2]))

    ahead, back = lstm.all_weights
    forward, backward = states(x, ahead), gathered(states(gathered(x, mirrored), back), mirrored)
    last = gathered(forward, lengths[..., None] - 1)  # (B, 1, D / 2), of the last word
    words = torch.cat([forward, backward], dim=2) * attention_mask[..., None].to(x)
    return words, torch.cat([last, backward[:, :1]], dim=2)[:, 0]


class DAMSMImageEncoder(GANPreTrainedModel):
    """Inception-v3 with two linear heads: one vector per region and one per image."""

    config_class = DAMSMImageConfig
    base_model_prefix = "image_encoder"
    main_input_name = "pixel_values"
    embeds_regions = True
    _keys_to_ignore_on_load_unexpected = [r"^text_encoder\."]

    def __init__(self, config: DAMSMImageConfig):
        super().__init__(config)
        self.trunk = InceptionTrunk(config.channel_divisor)
        self.region_head = nn.Conv2d(self.trunk.region_channels, config.hidden_size, 1, bias=False)
        self.image_head = nn.Linear(self.trunk.pooled_channels, config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module in (self.region_head, self.image_head):
            init.uniform_(module.weight, -0.1, 0.1)

    def forward(self, pixel_values: Tensor) -> ImageEmbeddings:
        """Embeds images.

        Args:
            pixel_values: (B, 3, H, W) in [-1, 1], of any size; resized to the configured one here.

        Returns:
            image_emb (B, D) and region_feats (B, D, h, w).
        """
        size = (self.config.image_size, self.config.image_size)
        x = F.interpolate(pixel_values, size=size, mode="bilinear", align_corners=self.config.align_corners)
        regions, pooled = self.trunk(x)
        return ImageEmbeddings(image_emb=self.image_head(pooled), region_feats=self.region_head(regions))


class DAMSMModel(GANPreTrainedModel):
    """Both towers of phase 1, saved and loaded together."""

    config_class = DAMSMConfig
    base_model_prefix = "damsm"

    def __init__(self, config: DAMSMConfig):
        super().__init__(config)
        self.text_encoder = DAMSMTextEncoder(config.text_config)
        self.image_encoder = DAMSMImageEncoder(config.image_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None, pixel_values: Tensor
    ) -> tuple[TextEmbeddings, ImageEmbeddings]:
        """Embeds captions (B, T) and images (B, 3, H, W)."""
        return self.text_encoder(input_ids, attention_mask), self.image_encoder(pixel_values)
