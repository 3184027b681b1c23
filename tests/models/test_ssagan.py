"""SSA-GAN against its authors' code."""

import pytest
import torch
from golden.weights import Golden, stats
from torch.testing import assert_close

from t2i_supcon.conversion import CONVERSIONS, load_original, rename
from t2i_supcon.losses import matching_aware_gradient_penalty
from t2i_supcon.models import SSAGANConfig, SSAGANDiscriminator, SSAGANGenerator


def ordered_grads(model, golden, part):
    """Gradients in the order of the original's parameters."""
    parameters = dict(model.named_parameters())
    names = [rename(key, CONVERSIONS["ssagan", part].rules) for key in golden.weights]
    return [parameters[name].grad for name in names if name in parameters]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_generator_equals_the_original(mode):
    golden = Golden("ssagan_generator")
    model = load_original("ssagan", "generator", golden.weights).train(mode == "train")
    sentence = golden.inputs["sent_emb"].requires_grad_()
    out = model(golden.inputs["z"], sentence)
    expected = {key.removeprefix(f"{mode}."): value for key, value in golden.outputs.items() if key.startswith(mode)}
    (image,) = out.images
    assert_close(image[..., ::4, ::4], expected["img_s4"], atol=2e-4, rtol=0)
    assert_close(image[:, :, 100:132, 100:132], expected["img_crop"], atol=2e-4, rtol=0)
    for mask, stride in zip(out.masks, (1, 1, 1, 1, 2, 4, 8), strict=True):
        name = f"mask{mask.shape[-1]}_s{stride}"
        assert_close(mask[..., ::stride, ::stride], expected[name], atol=2e-4, rtol=0)
    loss = image.square().mean() + sum(mask.mean() for mask in out.masks)
    assert_close(loss, expected["probe_loss"], rtol=1e-4, atol=0)
    loss.backward()
    assert_close(
        sentence.grad, expected["grad_sent_emb"], rtol=1e-3, atol=1e-3 * float(expected["grad_sent_emb"].abs().max())
    )
    grads = stats(ordered_grads(model, golden, "generator"))
    assert_close(grads[:, 1], expected["param_grad_stats"][:, 1], rtol=1e-3, atol=1e-5)
    if mode == "train":
        buffers = model.state_dict()
        names = [rename(key, CONVERSIONS["ssagan", "generator"].rules) for key in golden.weights if "running_" in key]
        assert_close(stats(buffers[name] for name in names), expected["running_stats_after"], rtol=1e-3, atol=1e-3)


def test_discriminator_equals_the_original():
    golden = Golden("ssagan_discriminator")
    model = load_original("ssagan", "discriminator", golden.weights)
    image, sentence = golden.image("real_lo", 2).requires_grad_(), golden.inputs["cond"].requires_grad_()
    logits = model(image, sentence).cond[0]
    assert_close(logits, golden.outputs["logits"].flatten(), atol=2e-4, rtol=1e-4)
    grads = torch.autograd.grad(logits.sum(), (image, sentence), retain_graph=True)
    assert_close(
        grads[0][..., ::4, ::4], golden.outputs["magp.grad_img_s4"], rtol=1e-3, atol=1e-4 * float(grads[0].abs().max())
    )
    assert_close(grads[1], golden.outputs["magp.grad_cond"], rtol=1e-3, atol=1e-5)
    norms = torch.cat([grad.flatten(1) for grad in grads], dim=1).norm(dim=1)
    assert_close(norms, golden.outputs["magp.grad_norms"], rtol=1e-4, atol=0)
    penalty = matching_aware_gradient_penalty(model(image, sentence).cond[0], (image, sentence))
    assert_close(penalty, golden.outputs["magp.loss"], rtol=1e-3, atol=0)  # the sixth power of a norm good to 1e-4
    penalty.backward()
    expected = golden.outputs["magp.param_grad_stats"]
    assert_close(stats(ordered_grads(model, golden, "discriminator"))[:, 1], expected[:, 1], rtol=2e-3, atol=1e-5)


def test_discriminator_pairs_first_images_with_wrong_captions():
    golden = Golden("ssagan_discriminator")
    model = load_original("ssagan", "discriminator", golden.weights)
    sentence = golden.inputs["cond"].requires_grad_()
    small = golden.inputs["real_lo"].requires_grad_()
    out = model(golden.image("real_lo", 2), sentence, sentence[1:])
    loss = torch.relu(1 - out.cond[0]).mean() + torch.relu(1 + out.wrong[0]).mean() / 2
    assert_close(loss, golden.outputs["hinge_real_plus_half_mismatch"], rtol=1e-4, atol=0)
    loss.backward()
    for grad, name in ((small.grad, "hinge.grad_real_lo"), (sentence.grad, "hinge.grad_cond")):
        expected = golden.outputs[name]
        assert_close(grad, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert_close(
        stats(ordered_grads(model, golden, "discriminator"))[:, 1],
        golden.outputs["hinge.param_grad_stats"][:, 1],
        rtol=1e-3,
        atol=1e-5,
    )


def test_published_sizes_have_the_published_parameter_counts():
    with torch.device("meta"):
        generator, discriminator = SSAGANGenerator(SSAGANConfig()), SSAGANDiscriminator(SSAGANConfig())
    assert sum(p.numel() for p in generator.parameters()) == 29_494_273
    assert sum(p.numel() for p in discriminator.parameters()) == 80_379_526


def test_a_new_generator_normalises_without_its_sentence():
    config = SSAGANConfig(image_size=16, noise_dim=5, generator_channels=2, text_config={"hidden_size": 8})
    norm = SSAGANGenerator(config).blocks[1].norm1
    x = torch.randn(2, 8, 4, 4)
    assert_close(norm(x, torch.randn(2, 8), torch.ones(2, 1, 4, 4)), norm.norm(x))


def test_image_size_must_be_a_power_of_two():
    with pytest.raises(Exception, match="image_size is 48"):
        SSAGANConfig(image_size=48)
