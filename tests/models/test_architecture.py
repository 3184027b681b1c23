"""What configs say of networks."""

from t2i_supcon.models import CLIPImageConfig, DAMSMConfig
from t2i_supcon.models.architecture import architecture, architecture_hash, own_fields


def test_values_have_the_names_of_recipes_and_leave_out_those_of_every_config():
    config = DAMSMConfig(image_config={"align_corners": True})
    found = architecture(config)
    assert found["model_config.image_config.align_corners"] is True
    assert found["model_config.text_config.vocab_size"] == config.text_config.vocab_size
    assert not any("architectures" in name or "transformers_version" in name for name in found)
    assert "rescale_twice" in own_fields(CLIPImageConfig)


def test_a_value_that_no_tensor_tells_changes_the_name():
    names = [architecture_hash(DAMSMConfig(image_config={"align_corners": one})) for one in (True, False, False)]
    assert names[0] != names[1] == names[2]
