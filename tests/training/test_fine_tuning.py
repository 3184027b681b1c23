"""From published models to a run on data with other words, over HTTP."""

import logging

import pytest
import torch
from accelerate import Accelerator
from conftest import TINY, TINY_IMAGE, TINY_TEXT, states_equal, write_dataset
from training.conftest import encoder_recipe, gan_recipe

from t2i_supcon.conversion import load_encoders
from t2i_supcon.models import DAMSMConfig, DAMSMModel, SSAGANConfig, SSAGANDiscriminator, SSAGANForTextToImage
from t2i_supcon.publishing import publish
from t2i_supcon.training import train
from t2i_supcon.training.data import load_splits
from t2i_supcon.training.encoder_phase import EncoderPhase
from t2i_supcon.training.gan_phase import GANPhase

NEW = [["a red hexagon"], ["a blue hexagon on white"], ["the green zebra"]]


def start(phase, recipe):
    rows, held_out = load_splits(recipe)
    return phase.from_recipe(recipe, Accelerator(cpu=True), rows, held_out)


@pytest.fixture
def published(hub, encoders, tokenizer, tmp_path):
    """Both phases on the Hub, as runs leave them."""
    text = encoders.config.text_config.to_dict() | {"gain": 3.0}
    config = SSAGANConfig(**TINY["ssagan"], text_config=text)
    encoders.save_pretrained(tmp_path / "damsm")
    model = SSAGANForTextToImage(config)
    model.text_encoder.load_state_dict(encoders.text_encoder.state_dict())
    model.save_pretrained(tmp_path / "gan")
    SSAGANDiscriminator(config).save_pretrained(tmp_path / "gan" / "discriminator")
    for name in ("damsm", "gan"):
        tokenizer.save_pretrained(tmp_path / name)
        publish(tmp_path / name, f"me/{name}", tag="v1")
    return hub


@pytest.fixture
def new_data(tmp_path):
    folder = tmp_path / "new"
    write_dataset(folder, [i % 3 for i in range(24)], captions=[NEW[i % 3] for i in range(24)])
    return write_dataset(folder, [i % 3 for i in range(12)], "test", captions=[NEW[i % 3] for i in range(12)])


def test_both_phases_go_on_from_the_hub_with_new_words(published, new_data, tmp_path, caplog):
    recipe = encoder_recipe(new_data, init_from="me/damsm", model_config={}, steps=1)
    before, words = load_encoders("me/damsm", 18)
    phase = start(EncoderPhase, recipe)
    known, ids = words.get_vocab(), phase.tokenizer.get_vocab()
    assert {word: ids[word] for word in known} == known
    assert {word for word in ids if word not in known} == {"▁hexagon", "▁zebra"}
    assert ids["▁hexagon"] == len(known)  # the more frequent one comes first
    grown = phase.towers.state_dict()
    for name, tensor in before.state_dict().items():
        assert torch.equal(grown[name][: len(tensor)] if tensor.ndim else grown[name], tensor)
    assert len(phase.towers.get_input_embeddings().weight) == len(known) + 2 == len(phase.tokenizer)

    train(recipe, tmp_path / "encoders")
    again, words = load_encoders(str(tmp_path / "encoders" / "model"), 18)
    assert again.config.text_config.vocab_size == len(words) == len(known) + 2

    recipe = gan_recipe(new_data, tmp_path / "encoders" / "model", init_from="me/gan@v1", model_config={}, steps=1)
    with caplog.at_level(logging.WARNING):
        phase = start(GANPhase, recipe)
    assert "me/gan@v1 was trained around another text encoder" in caplog.text
    model = SSAGANForTextToImage.from_pretrained("me/gan", revision="v1")
    discriminator = SSAGANDiscriminator.from_pretrained("me/gan", revision="v1", subfolder="discriminator")
    networks = phase.networks()
    assert states_equal(networks["generator"].state_dict(), model.generator.state_dict())
    assert states_equal(networks["ema"].state_dict(), model.generator.state_dict())
    assert states_equal(networks["discriminator"].state_dict(), discriminator.state_dict())
    assert states_equal(phase.text_encoder.state_dict(), again.text_encoder.state_dict())
    assert phase.text_encoder.config.gain == 3.0  # as the generator knows it
    train(recipe, tmp_path / "tuned")
    tuned = SSAGANForTextToImage.from_pretrained(tmp_path / "tuned" / "model")
    assert tuned.config.text_config.vocab_size == len(words)
    assert not states_equal(tuned.generator.state_dict(), model.generator.state_dict())


def test_what_does_not_fit_is_one_line(published, tokenizer, tiny_data, tmp_path):
    sizes = {"text_config": TINY_TEXT | {"hidden_size": 12, "vocab_size": len(tokenizer)}}
    wide = tmp_path / "wide"
    DAMSMModel(DAMSMConfig(**sizes, image_config=TINY_IMAGE | {"hidden_size": 12})).save_pretrained(wide)
    tokenizer.save_pretrained(wide)
    for recipe, message in (
        (
            gan_recipe(tiny_data, wide, init_from="me/gan", model_config={}),
            "'me/gan' and encoders .* do not fit: SSAGAN",
        ),
        (gan_recipe(tiny_data, "me/damsm", init_from="me/damsm", model_config={}), "it holds a DAMSMModel"),
        (gan_recipe(tiny_data, "me/damsm", init_from="me/none", model_config={}), "no model repository 'me/none'"),
        (gan_recipe(tiny_data, "me/damsm", init_from="me/gan@v9", model_config={}), "'me/gan' has no revision 'v9'"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            start(GANPhase, recipe)
        assert "\n" not in str(error.value)
    repo = published.repos["model", "me/gan"]
    files = {name: data for name, data in repo.files().items() if not name.startswith("discriminator/")}
    repo.commit(files, "without it", "alone")
    with pytest.raises(ValueError, match="the discriminator of model 'me/gan@alone': missing"):
        start(GANPhase, gan_recipe(tiny_data, "me/damsm", init_from="me/gan@alone", model_config={}))
    with pytest.raises(ValueError, match="model_config and init_from exclude each other"):
        gan_recipe(tiny_data, "me/damsm", init_from="me/gan")
