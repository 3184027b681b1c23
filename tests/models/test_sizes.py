"""Numbers of configs that no network can have are refused, by name, before anything is built."""

import pytest
from conftest import TINY, tiny_text
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from t2i_supcon.models import GANS, CLIPPairConfig, DAMSMConfig
from t2i_supcon.models.sizes import RANGES, check_sizes

CONFIGS = {name: gan.config for name, gan in GANS.items()} | {"damsm": DAMSMConfig, "clip": CLIPPairConfig}
BAD = [0, -1, 10**12, 10**400]


@pytest.mark.parametrize("name", CONFIGS)
def test_defaults_lie_in_range_and_every_size_has_one(name):
    config = CONFIGS[name]()
    check_sizes(config)
    declared = {field for field, kind in type(config).__annotations__.items() if kind is int}
    assert declared <= RANGES.keys()


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("field", ["noise_dim", "image_size", "generator_channels", "discriminator_channels"])
def test_sizes_of_gans_are_refused(gan_name, field, value):
    with pytest.raises(StrictDataclassError, match=f"{field} is .*; it must be at least 1 and at most"):
        GANS[gan_name].config(**{**TINY[gan_name], "text_config": tiny_text(gan_name), field: value})


def test_sizes_inside_are_named_by_their_place():
    with pytest.raises(ValueError, match="model_config.text_config.hidden_size is -2; it must be at least 1"):
        check_sizes({"text_config": {"hidden_size": -2}}, "model_config.")
    with pytest.raises(StrictDataclassError, match="text_config.num_hidden_layers is 1000000000000; it must be"):
        CLIPPairConfig(text_config={"num_hidden_layers": 10**12})
    with pytest.raises(StrictDataclassError, match="num_hidden_layers is 1000000000000; it must be at least 1"):
        CLIPPairConfig(image_config={"num_hidden_layers": 10**12})
    with pytest.raises(ValueError, match="gain is nan; it must be at least 1e-06 and at most"):
        check_sizes({"gain": float("nan")})
    check_sizes({"text_config": None, "hidden_size": "wide", "align_corners": True, "unknown": -1})


def test_a_saved_config_is_checked_when_it_is_read(tmp_path):
    GANS["attngan"].config().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"num_stages": 3', '"num_stages": 1000000000000'))
    with pytest.raises(StrictDataclassError, match="num_stages is 1000000000000; it must be at least 1 and at most 10"):
        AutoConfig.from_pretrained(tmp_path)
