"""SSA-GAN's sizes, read off its tensors, against the recorded inputs and outputs."""

import pytest
import torch
from golden.weights import Golden

from t2i_supcon.conversion import load_original


def test_the_generators_sizes_are_those_of_the_recording():
    golden = Golden("ssagan_generator")
    config = load_original("ssagan", "generator", golden.weights).config
    assert config.noise_dim == golden.inputs["z"].shape[1]
    assert config.text_config.hidden_size == golden.inputs["sent_emb"].shape[1]
    assert config.image_size == 4 * golden.outputs["eval.img_s4"].shape[-1]  # every fourth pixel was recorded


def test_the_discriminators_sizes_are_those_of_the_recording():
    golden = Golden("ssagan_discriminator")
    model = load_original("ssagan", "discriminator", golden.weights)
    assert model.config.text_config.hidden_size == golden.inputs["cond"].shape[1]
    size = model.config.image_size
    with torch.no_grad():
        scores = model((torch.zeros(3, 3, size, size),), golden.inputs["cond"]).cond[0]
    assert scores.shape == (3,) and size == 2 * golden.inputs["real_lo"].shape[-1]


@pytest.mark.parametrize(
    ("part", "key", "name"),
    [("generator", "fc.bias", "project_noise.bias"), ("discriminator", "conv_img.bias", "from_rgb.bias")],
)
def test_what_does_not_fit_is_named(part, key, name):
    weights = Golden(f"ssagan_{part}").weights
    with pytest.raises(ValueError, match="left over: extra.weight"):
        load_original("ssagan", part, weights | {"extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=f"missing: {name}"):
        load_original("ssagan", part, {other: value for other, value in weights.items() if other != key})
