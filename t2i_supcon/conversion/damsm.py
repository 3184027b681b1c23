"""DAMSM's two encoders, as AttnGAN, DM-GAN and SSA-GAN were trained with."""

from ..models import DAMSMImageConfig, DAMSMImageEncoder, DAMSMTextConfig, DAMSMTextEncoder
from .rules import Conversion, State


def _text_encoder_config(state: State, **known: object) -> DAMSMTextConfig:
    vocab_size, embedding_dim = state["encoder.weight"].shape
    return DAMSMTextConfig(
        vocab_size=vocab_size, embedding_dim=embedding_dim, hidden_size=2 * state["rnn.weight_hh_l0"].shape[1], **known
    )


def _image_encoder_config(state: State, **known: object) -> DAMSMImageConfig:
    divisor = 32 // state["Conv2d_1a_3x3.conv.weight"].shape[0]
    return DAMSMImageConfig(hidden_size=state["emb_features.weight"].shape[0], channel_divisor=divisor, **known)


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
