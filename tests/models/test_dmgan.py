"""DM-GAN's spectral normalisation against its authors' code, and its published sizes (the rest is
checked in test_stacked.py)."""

import pytest
import torch
from golden.authors import use_authors_spectral_norm
from golden.weights import Golden
from models.test_stacked import check_discriminator_loss
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from t2i_supcon.conversion import load_original
from t2i_supcon.losses import bce_discriminator_loss
from t2i_supcon.models import DMGANConfig, DMGANDiscriminator, DMGANGenerator
from t2i_supcon.models.blocks import score_pairs


def test_published_sizes_have_the_published_parameter_counts():
    coco = DMGANConfig(num_residual_blocks=3)
    with torch.device("meta"):
        bird, discriminator, coco = (
            DMGANGenerator(DMGANConfig()),
            DMGANDiscriminator(DMGANConfig()),
            DMGANGenerator(coco),
        )
    assert sum(p.numel() for p in bird.parameters()) == 21_449_042
    assert sum(p.numel() for p in coco.parameters()) == 22_335_314
    assert [sum(p.numel() for p in scale.parameters()) for scale in discriminator.scales] == [
        1_878_242,
        5_155_810,
        18_264_546,
    ]
    # with the vectors of spectral normalisation
    assert sum(t.numel() for t in discriminator.scales[2].state_dict().values()) == 18_301_938


@pytest.mark.parametrize("size", [64, 128, 256])
def test_discriminator_loss_equals_the_original_given_its_spectral_norm(size):
    golden = Golden(f"dmgan_discriminator{size}")
    model = load_original("dmgan", f"discriminator{size}", golden.weights)
    use_authors_spectral_norm(model, golden.weights)
    small, sentence = golden.inputs["real_lo"].requires_grad_(), golden.inputs["cond"].requires_grad_()
    # in the recorded order, which its iterations depend on
    real = model.narrow(model.down(golden.image("real_lo", size // 64)))
    fake = model.narrow(model.down(golden.image("fake_lo", size // 64)))
    joint = torch.nn.Sequential(model.joint, model.cond_head)
    pairs = (real, sentence), (fake, sentence), (real[:-1], sentence[1:])
    cond = [score_pairs(joint, *pair, None).cond[0] for pair in pairs]
    loss = bce_discriminator_loss(*cond, model.uncond_head(real).flatten(), model.uncond_head(fake).flatten())
    check_discriminator_loss(golden, model, loss, small, sentence, "dmgan", size)


def tiny() -> DMGANDiscriminator:
    return DMGANDiscriminator(
        DMGANConfig(image_size=16, num_stages=2, discriminator_channels=4, text_config={"hidden_size": 8})
    )


def test_saved_discriminator_loads_exactly(tmp_path):
    model = tiny().train()
    images, sentences = (torch.randn(2, 3, 8, 8), torch.randn(2, 3, 16, 16)), torch.randn(2, 8)
    for _ in range(3):
        model(images, sentences)  # moves the vectors
    model.save_pretrained(tmp_path)
    loaded, report = DMGANDiscriminator.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert_close(loaded(images, sentences).cond, model.eval()(images, sentences).cond)


def test_layers_a_file_lacks_start_anew(tmp_path):
    tiny().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(
        {key: value for key, value in load_file(file).items() if "joint.0.param" not in key},
        file,
        metadata={"format": "pt"},
    )
    weight = DMGANDiscriminator.from_pretrained(tmp_path).scales[0].joint[0].weight.detach().flatten(1)  # (4, 108)
    assert_close(weight @ weight.T, torch.eye(4), atol=1e-4, rtol=0)


def test_vectors_a_file_lacks_are_computed_from_its_weights(tmp_path):
    model = tiny()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(
        {key: value for key, value in load_file(file).items() if not key.endswith(("._u", "._v"))},
        file,
        metadata={"format": "pt"},
    )
    loaded = DMGANDiscriminator.from_pretrained(tmp_path)
    conv = loaded.scales[1].down[1][0]
    assert_close(conv.parametrizations.weight.original, model.scales[1].down[1][0].parametrizations.weight.original)
    # unnormalised: about 11
    assert torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2).item() == pytest.approx(1.0, rel=0.05)
