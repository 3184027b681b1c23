"""GALIP's and CLIP's files: half precision, prefixes, and names that do not fit."""

import pytest
import torch
from golden.weights import Golden
from models.test_clip import HEADS
from models.test_galip import TOWER
from torch.testing import assert_close

from t2i_supcon.conversion import load_original


def test_conversion_reads_openais_archives_in_half_precision():
    golden = Golden("galip_clip_encoders")
    half = {key: value.half() for key, value in golden.weights.items()} | {"context_length": torch.tensor(16)}
    model = load_original("galip", "clip", half, **HEADS)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    third = golden.weights["visual.transformer.resblocks.5.attn.in_proj_weight"].half().float()[64:96]
    assert torch.equal(model.image_encoder.vision.encoder.layers[5].self_attn.v_proj.weight, third)
    assert model.config.text_config.eos_token_id == 59 and model.config.image_config.rescale_twice


def test_what_does_not_fit_clip_is_named():
    weights = Golden("galip_clip_encoders").weights
    with pytest.raises(ValueError, match="left over: image_encoder.vision.extra"):
        load_original("galip", "clip", {**weights, "visual.extra": torch.zeros(1)}, **HEADS)
    with pytest.raises(ValueError, match="missing: image_encoder.vision.pre_layrnorm.bias"):
        load_original(
            "galip", "clip", {key: value for key, value in weights.items() if key != "visual.ln_pre.bias"}, **HEADS
        )
    with pytest.raises(ValueError, match="num_attention_heads"):
        load_original("galip", "clip", weights)


def test_data_parallel_prefixes_are_accepted():
    golden = Golden("galip_discriminator")
    state = {f"net{key.replace('/', '.module.')}": value for key, value in golden.weights.items()}
    model = load_original("galip", "discriminator", state, image_config=TOWER)
    out = model(golden.inputs["feats"], golden.inputs["sent_emb"])
    assert_close(out.cond[0], golden.outputs["pred_real"].flatten(), atol=2e-5, rtol=1e-4)


def test_what_does_not_fit_the_generator_is_named():
    weights = Golden("galip_generator").weights
    with pytest.raises(ValueError, match="left over: mapping.extra"):
        load_original("galip", "generator", {**weights, "mapping.extra": torch.zeros(1)}, image_config=TOWER)
    without = {key: value for key, value in weights.items() if key != "mapping.CLIP_ViT.ln_pre.bias"}
    with pytest.raises(ValueError, match="missing: vision.pre_layrnorm.bias"):
        load_original("galip", "generator", without, image_config=TOWER)
