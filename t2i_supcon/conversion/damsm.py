"""DAMSM's two encoders, with which AttnGAN, DM-GAN, DF-GAN and SSA-GAN were trained."""

from ..models import DAMSMImageConfig, DAMSMImageEncoder, DAMSMTextConfig, DAMSMTextEncoder
from .rules import Conversion, Files, State, shape_of


def _text_encoder_config(state: State, **known: object) -> DAMSMTextConfig:
    vocab_size, embedding_dim = shape_of(state, "encoder.weight", 2)
    hidden_size = 2 * shape_of(state, "rnn.weight_hh_l0", 2)[1]
    return DAMSMTextConfig(vocab_size=vocab_size, embedding_dim=embedding_dim, hidden_size=hidden_size, **known)


def _image_encoder_config(state: State, **known: object) -> DAMSMImageConfig:
    divisor = 32 // shape_of(state, "Conv2d_1a_3x3.conv.weight", 4)[0]
    hidden_size = shape_of(state, "emb_features.weight", 4)[0]
    return DAMSMImageConfig(hidden_size=hidden_size, channel_divisor=divisor, **known)


FILES = {"damsm": Files(("text_encoder", "image_encoder", "captions"), align_corners=True)}
CONVERSIONS = {
    ("damsm", "text_encoder"): Conversion(
        DAMSMTextEncoder, [(r"^encoder\.", "embedding."), (r"^rnn\.", "lstm.")], _text_encoder_config
    ),
    ("damsm", "image_encoder"): Conversion(
        DAMSMImageEncoder,
        [
            (r"^emb_features\.", "region_head."),
            (r"^emb_cnn_code\.", "image_head."),
            (r"^(Conv2d|Mixed)_", r"trunk.\1_"),
        ],
        _image_encoder_config,
    ),
}
