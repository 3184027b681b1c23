"""Saved models load whole or not at all, and what is wrong with them is one line."""

import json
import os
import shutil

import pytest
import torch
from conftest import foreign_clip, tiny_config
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import AutoModel

from t2i_supcon.conversion import load_encoders, load_inception_weights
from t2i_supcon.conversion.pretrained import load_pretrained, load_tokenizer
from t2i_supcon.models import GANS, CLIPPairModel, DAMSMModel, SSAGANForTextToImage
from t2i_supcon.models.inception import InceptionTrunk

KEY = "generator.project_noise.weight"


@pytest.fixture
def folder(tokenizer, tmp_path):
    gan = GANS["ssagan"]
    config = tiny_config("ssagan", len(tokenizer))
    gan.composite(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    gan.discriminator(config).save_pretrained(tmp_path / "model" / "discriminator")
    gan.generator(config).save_pretrained(tmp_path / "model" / "generator")
    return tmp_path / "model"


def load(folder):
    model = load_pretrained(str(folder), "model", (SSAGANForTextToImage,))
    return model, load_tokenizer(str(folder), "model")


def test_a_whole_model_loads_as_it_was_saved(folder):
    model, tokenizer = load(folder)
    assert type(model) is SSAGANForTextToImage and not model.training and tokenizer("a red star")["input_ids"]
    expected = AutoModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_weights_in_shards_load_too(folder):
    model, _ = load(folder)
    model.save_pretrained(folder, max_shard_size="10KB")
    (folder / "model.safetensors").unlink()
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    again, _ = load(folder)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ValueError, match=shard.name):
        load(folder)


def weights(change):
    def damage(folder):
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def config(**fields):
    def damage(folder):
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | fields))

    return damage


def content(file, written):
    return lambda folder: (folder / file).write_bytes(written)


def instead(file, make):
    def damage(folder):
        (folder / file).unlink()
        make(folder / file)

    return damage


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"code": folder}, folder / "pytorch_model.bin")


DAMAGE = {
    "a missing tensor": (weights(lambda state: state.pop(KEY)), f"{KEY} is missing"),
    "a NaN": (weights(lambda state: state[KEY][0, :1].fill_(float("nan"))), f"{KEY} holds NaN or infinity"),
    "whole numbers": (
        weights(lambda state: state.update({KEY: state[KEY].long()})),
        rf"{KEY} holds whole numbers .I64",
    ),
    "truth values": (weights(lambda state: state.update({KEY: state[KEY] > 0})), f"{KEY} holds whole numbers"),
    "another shape": (weights(lambda state: state.update({KEY: state[KEY][1:]})), rf"{KEY} has shape \(255, 6\), and"),
    "another rank": (weights(lambda state: state.update({KEY: state[KEY][0]})), rf"{KEY} has shape \(6,\), and by"),
    "sizes of another model": (config(generator_channels=8), "its files do not fit each other: generator"),
    "empty weights": (content("model.safetensors", b""), "model.safetensors: it is no safetensors file, or a damaged"),
    "foreign weights": (content("model.safetensors", b"<html>" * 99), "model.safetensors: it is no safetensors file"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
    "a pipe of weights": (instead("model.safetensors", os.mkfifo), "no file named model.safetensors"),
    "a folder of weights": (instead("model.safetensors", os.mkdir), "no file named model.safetensors"),
    "weights that link to themselves": (
        instead("model.safetensors", lambda path: path.symlink_to(path.name)),
        "no file named model.safetensors",
    ),
    "code among the weights": (pickled, "its file of weights holds more than tensors, or is damaged"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no saved model found there: .* no file config"),
    "a pipe of a config": (instead("config.json", os.mkfifo), "no saved model found there: .* no file config.json"),
    "half a config": (content("config.json", b'{"model_type": "ssa'), "config.json' is not a valid JSON file"),
    "a config in another encoding": (content("config.json", b"\xff\xfe{"), "config.json' is not a valid JSON file"),
    "a config deeper than any": (content("config.json", b"[" * 10**5), "RecursionError"),
    "a list for a config": (content("config.json", b"[1]"), "Unrecognized model"),
    "an unknown kind": (config(model_type="zorp"), "model type `zorp`"),
    "a size in words": (config(image_size="big"), "image_size"),
    "a size that cannot be": (config(image_size=17), "image_size is 17; it must be a power of two"),
    "a size below zero": (config(generator_channels=-4), "generator_channels is -4; it must be at least 1"),
    "a size beyond all memory": (config(generator_channels=10**9), "generator_channels is 1000000000; it must be"),
    "an empty tokenizer": (content("tokenizer.json", b""), "the tokenizer of model .*Expecting value"),
    "a foreign tokenizer": (content("tokenizer.json", b"{}"), "the tokenizer of model .* KeyError"),
    "a pipe of a tokenizer": (instead("tokenizer.json", os.mkfifo), "the tokenizer of model"),
    "a list for a tokenizer's config": (content("tokenizer_config.json", b"[]"), "the tokenizer of model"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_or_foreign_is_one_line(folder, name, capfd):
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(ValueError, match=message) as error:
        load(folder)
    text = str(error.value)
    assert str(folder) in text and "\n" not in text and len(text) < 700 and "weights_only" not in text
    assert "LOAD REPORT" not in "".join(capfd.readouterr())


def test_a_part_in_place_of_the_whole_is_named(folder):
    for part, found in (("discriminator", "SSAGANDiscriminator"), ("generator", "SSAGANGenerator")):
        with pytest.raises(ValueError, match=f"it holds a {found}; name the folder of a text-to-image model"):
            load(folder / part)


def test_a_name_that_leads_nowhere_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in (
        "",
        "\0",
        "../nowhere",
        "some/where/else",
        tmp_path / "none",
        tmp_path,
        tmp_path / "file",
        tmp_path / "pipe",
    ):
        with pytest.raises(ValueError, match="model .*: no saved model found there") as error:
            load_pretrained(str(name), "model", (SSAGANForTextToImage,))
        assert "\n" not in str(error.value)
    with pytest.raises(
        ValueError, match="there is no such folder, and there is no model repository 'someone/something'"
    ) as error:
        load_pretrained("someone/something", "model", (SSAGANForTextToImage,))
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_encoders_are_loaded_whole_or_refused(folder, encoders, tokenizer, tmp_path):
    encoders.save_pretrained(tmp_path / "encoders")
    tokenizer.save_pretrained(tmp_path / "encoders")
    limits = [load_encoders(str(tmp_path / "encoders"), words)[1].model_max_length for words in (4, None)]
    assert limits == [4, tokenizer.model_max_length]
    for path, found in ((folder, "SSAGANForTextToImage"), (folder / "discriminator", "SSAGANDiscriminator")):
        with pytest.raises(ValueError, match=f"it holds a {found}; train phase 1 first"):
            load_encoders(str(path), 4)
    for change, message in (
        (lambda state: state.pop("text_encoder.embedding.weight"), "text_encoder.embedding.weight is missing"),
        (lambda state: state["image_encoder.image_head.bias"].fill_(float("inf")), "image_head.bias holds NaN or inf"),
    ):
        shutil.copytree(tmp_path / "encoders", tmp_path / "damaged", dirs_exist_ok=True)
        weights(change)(tmp_path / "damaged")
        with pytest.raises(ValueError, match=message):
            load_encoders(str(tmp_path / "damaged"), 4)


def test_clip_of_transformers_embeds_the_same(tokenizer, tmp_path):
    theirs = foreign_clip()
    theirs.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ours, loaded_tokenizer = load_encoders(str(tmp_path), max_words=77)
    assert isinstance(ours, CLIPPairModel) and loaded_tokenizer.model_max_length == 12
    ids = torch.tensor([[28, 3, 4, 29, 0], [28, 5, 6, 7, 29]])
    pixels = torch.randn(2, 3, 16, 16)
    mean, std = (buffer for buffer in (ours.image_encoder.pixel_mean, ours.image_encoder.pixel_std))
    with torch.no_grad():
        expected = theirs(
            input_ids=ids, attention_mask=(ids > 0).long(), pixel_values=(pixels * 0.5 + 0.5 - mean) / std
        )
        text, images = ours(ids, (ids > 0).long(), pixels)
    assert_close(F.normalize(text.sent_emb, dim=1), expected.text_embeds)
    assert_close(F.normalize(images.image_emb, dim=1), expected.image_embeds)
    assert torch.equal(ours.logit_scale, theirs.logit_scale)


def test_inception_weights_in_torchvisions_names(tmp_path):
    source, target = InceptionTrunk(16), InceptionTrunk(16)
    extras = {"fc.weight": torch.zeros(1000, 128), "AuxLogits.conv0.conv.weight": torch.zeros(1)}
    torch.save(
        {k: v for k, v in source.state_dict().items() if "num_batches" not in k} | extras, tmp_path / "inception.pth"
    )
    load_inception_weights(target, str(tmp_path / "inception.pth"))
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())
    with pytest.raises(FileNotFoundError, match=r"no file .*none.pth; download inception_v3_google"):
        load_inception_weights(target, str(tmp_path / "none.pth"))
    (tmp_path / "damaged.pth").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="damaged.pth: it is no file of tensors alone"):
        load_inception_weights(target, str(tmp_path / "damaged.pth"))
    with pytest.raises(ValueError, match="is no Inception-v3 of this width: Conv2d_1a_3x3.conv.weight"):
        load_inception_weights(InceptionTrunk(8), str(tmp_path / "inception.pth"))


def test_what_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no saved encoders found"):
        load_encoders(str(tmp_path / "none"), max_words=5)


def test_damsm_too_can_start_from_what_phase_1_saved(encoders, tokenizer, tmp_path):
    encoders.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, again = load_encoders(str(tmp_path), max_words=4)
    assert isinstance(loaded, DAMSMModel) and again.model_max_length == 4
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in encoders.state_dict().items())
