"""The CLIP towers against OpenAI's names and GALIP's use of them."""

import pytest
import torch
from conftest import TINY_CLIP_IMAGE, TINY_CLIP_TEXT, foreign_clip
from golden.weights import Golden
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModel

from t2i_supcon.conversion import load_original
from t2i_supcon.models import CLIPImageConfig, CLIPImageEncoder, CLIPPairConfig, CLIPPairModel, CLIPTextEncoder

HEADS = {"text_config": {"num_attention_heads": 2}, "image_config": {"num_attention_heads": 4}}


def tiny_pair(**image_fields) -> CLIPPairModel:
    text = {**TINY_CLIP_TEXT, "vocab_size": 20}
    return CLIPPairModel(CLIPPairConfig(text_config=text, image_config={**TINY_CLIP_IMAGE, **image_fields})).eval()


def test_text_tower_equals_the_original():
    golden = Golden("galip_clip_encoders")
    model = load_original("galip", "clip", golden.weights, **HEADS).text_encoder
    ids = golden.inputs["tokens"]
    out = model(ids)
    # OpenAI's rule: the end of text has the highest id
    real = torch.arange(ids.shape[1])[None] <= ids.argmax(dim=1)[:, None]
    assert (out.attention_mask == real).all()
    assert_close(out.sent_emb, golden.outputs["sent_emb"], atol=1e-5, rtol=1e-4)
    assert_close(out.word_embs[real], golden.outputs["word_embs"][real], atol=1e-5, rtol=1e-4)
    assert (out.word_embs[~real] == 0).all()


@pytest.mark.parametrize("size", [256, 224])
def test_image_tower_equals_the_original(size):
    golden = Golden("galip_clip_encoders")
    model = load_original("galip", "clip", golden.weights, **HEADS).image_encoder
    read = []
    model.vision.embeddings.patch_embedding.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    image = golden.image("img_lo", 4)[..., :size, :size].requires_grad_()
    out = model(image)
    assert_close(read[0][..., ::4, ::4], golden.outputs[f"clip_input{size}_s4"], atol=1e-5, rtol=1e-5)
    assert_close(out.local_feats, golden.outputs[f"feats{size}"], atol=5e-5, rtol=1e-4)
    assert_close(out.image_emb, golden.outputs[f"img_emb{size}"], atol=1e-5, rtol=1e-4)
    (out.local_feats.square().mean() + out.image_emb.square().mean()).backward()
    expected = golden.outputs[f"grad_img{size}_s4"]
    assert_close(image.grad[..., ::4, ::4], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("twice", "white", "black"), [(False, 1.0, 0.0), (True, 1.0, 0.5)])
def test_pixels_reach_the_tower_in_clips_statistics(twice, white, black):
    model = tiny_pair(rescale_twice=twice).image_encoder
    read = []
    model.vision.embeddings.patch_embedding.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    model(torch.stack([torch.ones(3, 7, 9), -torch.ones(3, 7, 9)]))
    # mean and standard deviation as in OpenAI's preprocessor_config.json
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    assert read[0].shape == (2, 3, 16, 16)
    for row, level in zip(read[0], (white, black)):
        assert_close(row.mean(dim=(1, 2)), (level - mean) / std)


def test_local_features_are_patches_in_reading_order():
    model = tiny_pair().image_encoder
    image = torch.randn(1, 3, 16, 16)
    changed = image.clone()
    changed[:, :, 4:8, 12:16] += 1  # the patch in row 1, column 3
    with torch.no_grad():
        for block in model.vision.encoder.layers:  # without attention every token stays on its own
            block.self_attn.out_proj.weight.zero_()
        differs = (model(image).local_feats != model(changed).local_feats).any(dim=(0, 1, 2))
    assert differs.nonzero().tolist() == [[1, 3]]


def test_sentence_is_read_at_the_last_real_token_in_any_order_of_lengths():
    model = tiny_pair().text_encoder
    ids, lengths = torch.randint(1, 20, (4, 6)), torch.tensor([2, 6, 1, 3])
    mask = (torch.arange(6)[None] < lengths[:, None]).long()
    together = model(ids, mask)
    for row, length in enumerate(lengths.tolist()):
        alone = model(ids[row : row + 1, :length])
        assert_close(together.sent_emb[row], alone.sent_emb[0])
        assert_close(together.word_embs[row, :length], alone.word_embs[0])
        assert (together.word_embs[row, length:] == 0).all()


def test_text_tower_refuses_captions_it_cannot_read():
    model = tiny_pair().text_encoder
    with pytest.raises(ValueError, match="no token"):
        model(torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 1, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="max_position_embeddings"):
        model(torch.ones(2, 9, dtype=torch.long))


def test_pair_and_both_towers_reload_exactly_from_one_folder(tmp_path):
    model = tiny_pair(rescale_twice=True)
    model.save_pretrained(tmp_path)
    ids, image = torch.randint(1, 20, (2, 5)), torch.randn(2, 3, 20, 20)
    text, seen = model(ids, None, image)
    for loader in (CLIPPairModel, AutoModel):
        again = loader.from_pretrained(tmp_path)
        assert isinstance(again, CLIPPairModel)
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
        text_again, seen_again = again(ids, None, image)
        assert torch.equal(text.sent_emb, text_again.sent_emb) and torch.equal(seen.local_feats, seen_again.local_feats)
    for tower, inputs, expected in ((CLIPTextEncoder, ids, text.sent_emb), (CLIPImageEncoder, image, seen.image_emb)):
        alone, info = tower.from_pretrained(tmp_path, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert torch.equal(alone(inputs)[next(iter(alone(inputs)))], expected)


def test_constants_a_checkpoint_lacks_are_restored(tmp_path):
    model = tiny_pair().image_encoder
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(
        {key: value for key, value in load_file(file).items() if not key.startswith("pixel_")},
        file,
        metadata={"format": "pt"},
    )
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(CLIPImageEncoder.from_pretrained(tmp_path)(image).image_emb, model(image).image_emb)


def test_published_sizes_have_the_published_parameter_counts():
    with torch.device("meta"):
        image = CLIPImageEncoder(CLIPImageConfig())
    assert sum(p.numel() for p in image.parameters()) == 87_849_216


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CLIPImageConfig(image_size=60), "image_size is 60"),
        (lambda: CLIPImageConfig(feature_layers=[3, 12]), "feature_layers are"),
        (
            lambda: CLIPPairConfig(text_config={"projection_dim": 4}, image_config={"projection_dim": 6}),
            "4 but image_config.projection_dim is 6",
        ),
    ],
)
def test_impossible_sizes_are_refused(make, message):
    with pytest.raises(Exception, match=message):
        make()


def test_a_caption_without_mask_ends_before_padding_that_is_also_the_end():
    model = tiny_pair().text_encoder
    assert model.config.eos_token_id == model.config.pad_token_id == 0
    ids = torch.tensor([[3, 4, 0, 0], [5, 6, 7, 8]])
    found, expected = model(ids), model(ids, (ids > 0).long())
    assert torch.equal(found.sent_emb, expected.sent_emb) and torch.equal(found.attention_mask, expected.attention_mask)


def test_a_clip_of_few_blocks_gives_those_it_has():
    assert CLIPPairModel.from_clip(foreign_clip()).config.image_config.feature_layers == [1, 4, 8]
    assert CLIPPairModel.from_clip(foreign_clip(4)).config.image_config.feature_layers == [1]
    assert CLIPPairModel.from_clip(foreign_clip(1)).config.image_config.feature_layers == [0]


def test_a_clip_whose_file_names_an_older_end_is_read_at_the_last_of_its_vocabulary():
    theirs = foreign_clip()
    ids = torch.tensor([[28, 3, 4, 29, 0, 0], [28, 5, 6, 7, 8, 29]])
    theirs.config.text_config.eos_token_id = theirs.text_model.eos_token_id = 2  # transformers takes the highest id
    with torch.no_grad():
        expected = theirs.text_projection(theirs.text_model(ids).pooler_output)
        assert_close(CLIPPairModel.from_clip(theirs).text_encoder(ids).sent_emb, expected)
