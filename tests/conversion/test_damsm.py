"""DAMSM's sizes, read off its tensors, against the recorded inputs and outputs."""

import pytest
import torch
from golden.weights import Golden

from t2i_supcon.conversion import load_original


def test_the_text_encoders_sizes_are_those_of_the_recording():
    golden = Golden("damsm_text_encoder")
    config = load_original("damsm", "text_encoder", golden.weights).config
    assert config.hidden_size == golden.outputs["sent_emb"].shape[1]
    assert config.vocab_size > golden.inputs["captions"].max()


@pytest.mark.parametrize("align", [False, True])
def test_the_image_encoders_sizes_are_those_of_the_recording(align):
    golden = Golden(f"damsm_image_encoder_align_{str(align).lower()}")
    config = load_original("damsm", "image_encoder", golden.weights, align_corners=align).config
    assert config.hidden_size == golden.outputs["eval.code"].shape[1] and config.align_corners == align
    assert 768 // config.channel_divisor == golden.outputs["eval.grad.emb_features"].shape[1]


@pytest.mark.parametrize(
    ("part", "recorded", "key", "name"),
    [
        ("text_encoder", "damsm_text_encoder", "rnn.bias_ih_l0", "lstm.bias_ih_l0"),
        ("image_encoder", "damsm_image_encoder_align_true", "emb_cnn_code.bias", "image_head.bias"),
    ],
)
def test_what_does_not_fit_is_named(part, recorded, key, name):
    weights = Golden(recorded).weights
    with pytest.raises(ValueError, match="left over: extra.weight"):
        load_original("damsm", part, weights | {"extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=f"missing: {name}"):
        load_original("damsm", part, {other: value for other, value in weights.items() if other != key})
