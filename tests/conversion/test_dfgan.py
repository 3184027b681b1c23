"""DF-GAN's files: sizes read off the tensors, the first version refused, the licence kept."""

import pickle
from pathlib import Path

import pytest
import torch
from golden.weights import Golden
from huggingface_hub import ModelCard
from torch.testing import assert_close
from transformers import AutoModel

from t2i_supcon.conversion import convert_files, load_original
from t2i_supcon.models import DFGANDiscriminator, DFGANForTextToImage


def judges(golden, prefix=""):
    """Both networks of the discriminator in one dict."""
    return {
        f"net{key[0]}.{prefix}{key[2:]}": value for key, value in golden.weights.items() if key.startswith(("D/", "C/"))
    }


def test_sizes_are_those_of_the_recordings():
    golden = Golden("dfgan_generator")
    config = load_original("dfgan", "generator", golden.part("G/")).config
    assert config.noise_dim == golden.inputs["z"].shape[1]
    assert config.text_config.hidden_size == golden.inputs["sent_emb"].shape[1]
    assert config.image_size == 4 * golden.outputs["img_s4"].shape[-1]  # every fourth pixel was recorded
    golden = Golden("dfgan_discriminator")
    config = load_original("dfgan", "discriminator", judges(golden)).config
    assert config.image_size == 4 * golden.inputs["real_lo"].shape[-1]
    assert config.text_config.hidden_size == golden.inputs["cond"].shape[1]


@pytest.mark.parametrize(
    ("part", "key", "name"),
    [
        ("generator", "fc.bias", "project_noise.bias"),
        ("generator", "GBlocks.1.fuse2.affine1.fc_beta.linear2.bias", "blocks.1.fuse2.affines.1.shift.linear2.bias"),
        ("discriminator", "netD.conv_img.bias", "from_rgb.bias"),
        ("discriminator", "netC.joint_conv.2.weight", "joint.2.weight"),
    ],
)
def test_what_does_not_fit_is_named(part, key, name):
    golden = Golden("dfgan_train_steps")
    weights = golden.part("G/") if part == "generator" else judges(golden)
    with pytest.raises(ValueError, match="left over: extra.weight"):
        load_original("dfgan", part, weights | {"extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=f"missing: {name}"):
        load_original("dfgan", part, {other: value for other, value in weights.items() if other != key})


def test_the_first_version_of_the_network_is_refused_by_name():
    old = {"fc.weight": torch.zeros(4096, 100), "block0.affine3.fc_gamma.linear1.weight": torch.zeros(256, 256)}
    with pytest.raises(ValueError, match="block0.affine3.*first version .2020., which is not implemented"):
        load_original("dfgan", "generator", old)
    old = {"conv_img.weight": torch.zeros(32, 3, 3, 3), "COND_DNET.joint_conv.0.weight": torch.zeros(64, 768, 3, 3)}
    with pytest.raises(ValueError, match="COND_DNET.joint_conv.0.weight: this is the network of DF-GAN's first"):
        load_original("dfgan", "discriminator", old)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_training_state_becomes_a_folder_that_draws_and_says_its_licence(prefix, tmp_path):
    golden = Golden("dfgan_train_steps")
    networks = {f"net{part}": {prefix + key: value for key, value in golden.part(f"{part}/").items()} for part in "GDC"}
    torch.save({"model": networks, "optimizers": {}, "epoch": 1}, tmp_path / "state_epoch_001.pth")
    torch.save(golden.part("Etxt/"), tmp_path / "text_encoder200.pth")
    words = ["<end>", *(f"word{i}" for i in range(1, len(golden.weights["Etxt/encoder.weight"])))]
    vocabulary = [[], [], dict(enumerate(words)), {word: i for i, word in enumerate(words)}]
    (tmp_path / "captions_DAMSM.pickle").write_bytes(pickle.dumps(vocabulary))
    files = {
        "generator": "state_epoch_001.pth",
        "discriminator": "state_epoch_001.pth",
        "text_encoder": "text_encoder200.pth",
        "captions": "captions_DAMSM.pickle",
    }
    convert_files("dfgan", {part: Path(tmp_path / name) for part, name in files.items()}, tmp_path / "out")
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert type(model) is DFGANForTextToImage
    noise, sentence = torch.randn(2, 100), torch.randn(2, 32)
    with torch.no_grad():
        expected = load_original("dfgan", "generator", golden.part("G/"))(noise, sentence).images[0]
        assert_close(model.generator(noise, sentence).images[0], expected)
        discriminator = DFGANDiscriminator.from_pretrained(tmp_path / "out", subfolder="discriminator")
        scores = load_original("dfgan", "discriminator", judges(golden))(expected, sentence).cond
        assert_close(discriminator(expected, sentence).cond, scores)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-nc-sa-4.0" and "CC-BY-NC-SA-4.0" in card.text
