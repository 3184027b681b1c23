"""DF-GAN against its authors' code."""

import pytest
import torch
from golden.weights import Golden, stats
from torch.testing import assert_close

from t2i_supcon.conversion import CONVERSIONS, load_original, rename
from t2i_supcon.losses import hinge_discriminator_loss, matching_aware_gradient_penalty
from t2i_supcon.models import DFGANConfig, DFGANDiscriminator, DFGANGenerator


def load_discriminator(golden) -> DFGANDiscriminator:
    state = {f"net{key.replace('/', '.')}": value for key, value in golden.weights.items()}
    return load_original("dfgan", "discriminator", state)


def assert_same_grads(model, part, keys, expected):
    """In the order of the original's parameters; a shortcut that is never called has none."""
    parameters = dict(model.named_parameters())
    found = stats(parameters[rename(key, CONVERSIONS["dfgan", part].rules)].grad for key in keys)
    assert_close(found[:, 1], expected[:, 1], rtol=1e-4, atol=1e-5)  # norms
    assert_close(found[:, 2], expected[:, 2], rtol=1e-3, atol=1e-4 * float(expected[:, 1].max()))  # first elements


def assert_relative(found, expected, rtol=1e-4):
    assert float((found - expected).norm() / expected.norm()) < rtol


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_generator_equals_the_original(mode):
    golden = Golden("dfgan_generator")
    model = load_original("dfgan", "generator", golden.part("G/")).train(mode == "train")
    seen = {}
    for number in (0, 2):
        model.blocks[number].register_forward_hook(lambda module, inputs, output, n=number: seen.update({n: output}))
    noise, sentence = golden.inputs["z"].requires_grad_(), golden.inputs["sent_emb"].requires_grad_()
    (image,) = model(noise, sentence).images
    expected = golden.outputs
    assert_close(seen[0], expected["block0"], rtol=1e-4, atol=1e-5)
    assert_close(seen[2][..., ::4, ::4], expected["block2_s4"], rtol=1e-4, atol=1e-4)
    assert_close(image[..., ::4, ::4], expected["img_s4"], atol=2e-4, rtol=0)
    assert_close(image[:, :, 100:132, 100:132], expected["img_crop"], atol=2e-4, rtol=0)
    loss = image.square().mean()
    assert_close(loss, expected["probe_loss"], rtol=1e-4, atol=0)
    loss.backward()
    assert_relative(noise.grad, expected["grad_z"])
    assert_relative(sentence.grad, expected["grad_sent_emb"])
    keys = [key.removeprefix("G/") for key in golden.weights]
    assert_same_grads(model, "generator", keys, expected["param_grad_stats"])


def test_discriminator_loss_equals_the_original():
    """Its authors pair image i + 1 with sentence i: image j with sentence j - 1."""
    golden = Golden("dfgan_discriminator")
    model = load_discriminator(golden)
    small, sentence = golden.inputs["real_lo"].requires_grad_(), golden.inputs["cond"].requires_grad_()
    image = golden.image("real_lo", 4)
    real = model(image, sentence, sentence.roll(1, dims=0))
    fake = model(golden.image("fake_lo", 8), sentence)
    expected = golden.outputs
    assert_close(real.cond[0], expected["logits"].flatten(), atol=2e-5, rtol=1e-4)
    assert_close(real.wrong[0], expected["logits_mis"].flatten().roll(1), atol=2e-5, rtol=1e-4)
    assert_close(fake.cond[0], expected["logits_fake"].flatten(), atol=2e-5, rtol=1e-4)
    hinge = hinge_discriminator_loss(real.cond[0], fake.cond[0], real.wrong[0])
    assert_close(hinge, expected["hinge"], rtol=1e-4, atol=0)
    hinge.backward(retain_graph=True)
    assert_relative(small.grad, expected["hinge.grad_real_lo"])
    assert_relative(sentence.grad, expected["hinge.grad_cond"])
    keys = {net: [f"net{key.replace('/', '.')}" for key in golden.weights if key.startswith(net)] for net in "DC"}
    for net in "DC":
        assert_same_grads(model, "discriminator", keys[net], expected[f"hinge.param_grad_stats.{net}"])

    model.zero_grad()
    penalty = matching_aware_gradient_penalty(real.cond[0], (image, sentence))
    assert_close(penalty, expected["magp.loss"], rtol=1e-3, atol=0)  # the sixth power of a norm good to 1e-4
    (hinge + penalty).backward()
    assert_close(hinge + penalty, expected["errD"], rtol=1e-3, atol=0)
    for net in "DC":
        assert_same_grads(model, "discriminator", keys[net], expected[f"errD.param_grad_stats.{net}"])


def test_the_penalised_gradient_equals_the_originals():
    golden = Golden("dfgan_discriminator")
    model = load_discriminator(golden)
    image, sentence = golden.image("real_lo", 4).requires_grad_(), golden.inputs["cond"].requires_grad_()
    by_image, by_sentence = torch.autograd.grad(model(image, sentence).cond[0].sum(), (image, sentence))
    assert_relative(by_image[..., ::4, ::4], golden.outputs["magp.grad_img_s4"])
    assert_relative(by_sentence, golden.outputs["magp.grad_cond"])


def test_published_sizes_have_the_published_parameter_counts():
    with torch.device("meta"):
        generator, discriminator = DFGANGenerator(DFGANConfig()), DFGANDiscriminator(DFGANConfig())
    assert sum(p.numel() for p in generator.parameters()) == 9_744_131
    head = sum(p.numel() for p in discriminator.joint.parameters())
    assert head == 295_936
    assert sum(p.numel() for p in discriminator.parameters()) - head == 6_619_206
    never_called = [p.numel() for p in discriminator.parameters() if not p.requires_grad]
    assert sum(never_called) == 197_376


@pytest.mark.parametrize("size", [8, 16, 64])
def test_other_sizes_run_the_same_code(size):
    config = DFGANConfig(
        image_size=size, noise_dim=5, generator_channels=2, discriminator_channels=2, text_config={"hidden_size": 8}
    )
    (image,) = DFGANGenerator(config)(torch.randn(2, 5), torch.randn(2, 8)).images
    assert image.shape == (2, 3, size, size)
    assert DFGANDiscriminator(config)(image, torch.randn(2, 8)).cond[0].shape == (2,)


def test_a_new_generator_does_not_know_its_sentence_yet():
    """All scales start at one and all shifts at zero, so the noise enters through its projection
    alone."""
    model = DFGANGenerator(
        DFGANConfig(image_size=16, noise_dim=5, generator_channels=2, text_config={"hidden_size": 8})
    )
    noise = torch.randn(2, 5)
    one, other = (model(noise, torch.randn(2, 8)).images[0] for _ in range(2))
    assert torch.equal(one, other) and not torch.allclose(one[0], one[1])


def test_image_size_must_be_a_power_of_two():
    with pytest.raises(Exception, match="image_size is 48"):
        DFGANConfig(image_size=48)
