"""The stacked generators and discriminators, AttnGAN's and DM-GAN's, against their authors'
code."""

import pytest
import torch
from golden.authors import is_parameter, is_running, mixed_up_softmax, original_order
from golden.weights import Golden, stats
from torch.testing import assert_close

from t2i_supcon.conversion import load_original
from t2i_supcon.losses import bce_discriminator_loss, bce_generator_loss, kl_loss
from t2i_supcon.models import GANS, stacked

ARCHS = ("attngan", "dmgan")


def generator_and_inputs(arch):
    golden = Golden(f"{arch}_generator")
    inputs = golden.inputs
    mask = (~inputs["mask"]).long()  # there, True is padding
    arguments = [inputs["z"], inputs["sent_emb"], inputs["words_embs"].transpose(1, 2), mask, inputs["eps"]]
    return golden, load_original(arch, "generator", golden.weights), arguments


def check_images(out, expected, mode):
    low, middle, high = out.images
    assert_close(low[..., ::2, ::2], expected[f"{mode}.img0_s2"], atol=2e-4, rtol=0)
    assert_close(middle[..., ::4, ::4], expected[f"{mode}.img1_s4"], atol=2e-4, rtol=0)
    assert_close(high[..., ::8, ::8], expected[f"{mode}.img2_s8"], atol=2e-4, rtol=0)
    assert_close(out.attentions[0][..., ::2, ::2], expected[f"{mode}.att0_s2"], atol=2e-4, rtol=0)
    assert_close(out.attentions[1][..., ::4, ::4], expected[f"{mode}.att1_s4"], atol=2e-4, rtol=0)


@pytest.mark.parametrize("arch", ARCHS)
def test_generator_equals_the_original_on_a_single_caption(arch):
    golden, model, arguments = generator_and_inputs(arch)
    torch.manual_seed(4321)  # the recording's seed: alone, the caption gets a draw of its own
    out = model(*(x[1:2] for x in arguments[:4]), torch.randn(1, model.config.conditioning_dim))
    assert_close(out.images[2][..., ::8, ::8], golden.outputs["eval_single1.img2_s8"], atol=2e-4, rtol=0)
    assert_close(out.attentions[0][..., ::2, ::2], golden.outputs["eval_single1.att0_s2"], atol=2e-4, rtol=0)


@pytest.mark.parametrize("arch", ARCHS)
def test_generator_equals_the_original_before_any_attention(arch):
    golden, model, arguments = generator_and_inputs(arch)
    out = model(*arguments)
    assert_close(out.images[0][..., ::2, ::2], golden.outputs["eval.img0_s2"], atol=2e-4, rtol=0)
    assert_close(out.mu, golden.outputs["mu"], atol=1e-6, rtol=1e-4)
    assert_close(out.logvar, golden.outputs["logvar"], atol=1e-6, rtol=1e-4)
    assert_close(model.conditioning(arguments[1], arguments[4])[0], golden.outputs["c_code"], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("arch", ARCHS)
def test_generator_equals_the_original_once_its_masks_are_mixed_up_too(arch, monkeypatch):
    golden, model, arguments = generator_and_inputs(arch)
    monkeypatch.setattr(stacked, "masked_softmax", mixed_up_softmax)
    check_images(model(*arguments), golden.outputs, "eval")
    out = model.train()(*arguments)
    check_images(out, golden.outputs, "train")
    loss = sum(image.square().mean() for image in out.images) + kl_loss(out.mu, out.logvar)
    assert_close(loss, golden.outputs["train.probe_loss"], rtol=1e-4, atol=0)
    loss.backward()
    grads = stats(p.grad for p in original_order(model, golden.weights, arch, "generator", is_parameter))
    assert_close(grads[:, 1], golden.outputs["train.param_grad_stats"][:, 1], rtol=1e-3, atol=1e-6)
    running = stats(original_order(model, golden.weights, arch, "generator", is_running))
    assert_close(running, golden.outputs["train.running_stats_after"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("arch", ARCHS)
def test_first_discriminator_forward_equals_the_original(arch, size):
    golden = Golden(f"{arch}_discriminator{size}")
    model = load_original(arch, f"discriminator{size}", golden.weights)
    out = model(golden.image("real_lo", size // 64), golden.inputs["cond"])
    assert_close(torch.sigmoid(out.cond[0]), golden.outputs["eval.cond"], atol=1e-5, rtol=0)
    assert_close(torch.sigmoid(out.uncond[0]), golden.outputs["eval.uncond"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("arch", ARCHS)
def test_generator_loss_through_the_discriminator_equals_the_original(arch, size):
    golden = Golden(f"{arch}_discriminator{size}")
    # DM-GAN's norm iterates in training, and here the first forward counts
    model = load_original(arch, f"discriminator{size}", golden.weights).train(arch == "attngan")
    small, sentence = golden.inputs["fake_lo"].requires_grad_(), golden.inputs["cond"].requires_grad_()
    out = model(golden.image("fake_lo", size // 64), sentence)
    assert_close(bce_generator_loss(out.cond[0]), golden.outputs["errG.cond"], rtol=1e-4, atol=0)
    loss = bce_generator_loss(out.cond[0], out.uncond[0])
    assert_close(loss, golden.outputs["errG.cond"] + golden.outputs["errG.uncond"], rtol=1e-4, atol=0)
    loss.backward()
    for grad, name in ((small.grad[..., ::4, ::4], "errG.grad_fake_lo_s4"), (sentence.grad, "errG.grad_cond")):
        expected = golden.outputs[name]
        assert_close(grad, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def check_discriminator_loss(golden, model, loss, small, sentence, arch, size):
    """Loss and all recorded gradients; shared with DM-GAN's test, which follows the recorded order
    of calls."""
    assert_close(loss, golden.outputs["errD"], rtol=1e-4, atol=0)
    loss.backward()
    for grad, name in ((small.grad[..., ::4, ::4], "errD.grad_real_lo_s4"), (sentence.grad, "errD.grad_cond")):
        expected = golden.outputs[name]
        assert_close(grad, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    grads = stats(p.grad for p in original_order(model, golden.weights, arch, f"discriminator{size}", is_parameter))
    assert_close(grads[:, 1], golden.outputs["errD.param_grad_stats"][:, 1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_discriminator_loss_of_attngan_equals_the_original(size):
    golden = Golden(f"attngan_discriminator{size}")
    model = load_original("attngan", f"discriminator{size}", golden.weights).train()
    small, sentence = golden.inputs["real_lo"].requires_grad_(), golden.inputs["cond"].requires_grad_()
    real = model(golden.image("real_lo", size // 64), sentence, sentence[1:])
    fake = model(golden.image("fake_lo", size // 64), sentence)
    loss = bce_discriminator_loss(real.cond[0], fake.cond[0], real.wrong[0], real.uncond[0], fake.uncond[0])
    check_discriminator_loss(golden, model, loss, small, sentence, "attngan", size)


@pytest.mark.parametrize("arch", ARCHS)
def test_all_scales_in_one_forward_equal_the_scales_alone(arch):
    gan = GANS[arch]
    config = gan.config(image_size=32, generator_channels=4, discriminator_channels=4, text_config={"hidden_size": 8})
    assert config.image_sizes == (8, 16, 32)
    model = gan.discriminator(config).eval()
    images, sentences = tuple(torch.randn(3, 3, s, s) for s in config.image_sizes), torch.randn(3, 8)
    out = model(images, sentences, sentences[1:])
    for k, (scale, image) in enumerate(zip(model.scales, images)):
        alone, wrong = scale(image, sentences), scale(image[:2], sentences[1:])
        assert_close(out.cond[k], alone.cond[0])
        assert_close(out.uncond[k], alone.uncond[0])
        assert_close(out.wrong[k], wrong.cond[0])
    assert model(images, sentences).wrong is None
    with pytest.raises(ValueError, match="images of 2 scales; this discriminator judges 3"):
        model(images[1:], sentences)


@pytest.mark.parametrize("arch", ARCHS)
def test_padding_does_not_change_the_images(arch):
    gan = GANS[arch]
    model = gan.generator(gan.config(image_size=32, generator_channels=4, text_config={"hidden_size": 8})).eval()
    noise, sentences, draw = torch.randn(3, 100), torch.randn(3, 8), torch.randn(3, 100)
    words, mask = torch.randn(3, 6, 8), torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    together = model(noise, sentences, words, mask, draw)
    for row, length in enumerate((6, 3, 1)):
        alone = model(
            *(x[row : row + 1] for x in (noise, sentences, words[:, :length])), conditioning_noise=draw[row : row + 1]
        )
        assert_close(together.images[-1][row], alone.images[-1][0], atol=1e-5, rtol=1e-4)
        assert (together.attentions[0][row, length:] == 0).all()
    assert_close(together.attentions[1].sum(dim=1), torch.ones(3, 16, 16))
    with pytest.raises(ValueError, match="word_embs is missing"):
        model(noise, sentences)


@pytest.mark.parametrize("arch", ARCHS)
def test_fewer_scales_are_the_first_of_all(arch):
    gan = GANS[arch]
    sizes = {"image_size": 32, "generator_channels": 4, "text_config": {"hidden_size": 8}}
    model = gan.generator(gan.config(**sizes))
    given = torch.randn(3, 100), torch.randn(3, 8), torch.randn(3, 6, 8), torch.ones(3, 6), torch.randn(3, 100)
    images = model(*given).images
    for count in (1, 2, 3):
        fewer = model(*given, num_scales=count)
        assert_close(fewer.images, images[:count])
        assert len(fewer.attentions) == count - 1
    for count in (0, 4):
        with pytest.raises(ValueError, match=f"num_scales is {count}; it must be from 1 to 3"):
            model(*given, num_scales=count)
    single = gan.generator(gan.config(**sizes, single_scale=True))
    assert_close(single(*given, num_scales=1).images, single(*given).images)


def test_networks_start_orthogonal():
    start = GANS["attngan"].generator(
        GANS["attngan"].config(image_size=32, generator_channels=16, text_config={"hidden_size": 8})
    )
    weight = start.stages[0].residual[0].residual[0].weight.flatten(1)  # (64, 288)
    assert_close(weight @ weight.T, torch.eye(64), atol=1e-5, rtol=0)
    scales = torch.cat([m.weight.detach() for m in start.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    assert scales.mean() == pytest.approx(1.0, abs=0.005) and scales.std() == pytest.approx(0.02, rel=0.1)
    assert (start.conditioning.project.bias == 0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 48}, "image_size is 48"),
        ({"image_size": 16}, "at least 32"),
        ({"num_stages": 0}, "num_stages is 0"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(values, message):
    with pytest.raises(Exception, match=message):
        GANS["attngan"].config(**values)


def test_single_scale_variant_draws_the_last_image_only():
    """AttnDCGAN's files: one image head, no head for the image alone; what they share with
    AttnGAN's does the same."""
    golden, full, arguments = generator_and_inputs("attngan")
    heads = ("img_net1", "img_net2")
    weights = {
        key.replace("img_net3.", "img_net."): value
        for key, value in golden.weights.items()
        if not key.startswith(heads)
    }
    single = load_original("attngan", "generator", weights)
    assert single.config.image_sizes == (256,)
    with torch.no_grad():
        (image,) = single(*arguments).images
        assert_close(image, full(*arguments).images[-1])
        judged = Golden("attngan_discriminator256").weights
        both = load_original("attngan", "discriminator256", judged)
        alone = load_original(
            "attngan", "discriminator256", {key: value for key, value in judged.items() if not key.startswith("UNCOND")}
        )
        assert_close(alone(image, arguments[1]).cond, both(image, arguments[1]).cond)
    assert alone.uncond_head is None and alone(image, arguments[1]).uncond is None


def test_single_scale_variant_has_the_published_parameter_counts():
    config = GANS["attngan"].config(single_scale=True, num_residual_blocks=0)
    with torch.device("meta"):
        networks = GANS["attngan"].generator(config), GANS["attngan"].discriminator(config)
    assert [sum(p.numel() for p in network.parameters()) for network in networks] == [6_638_960, 71_850_753]


def test_what_is_read_from_words_has_the_layout_of_channels_last_maps():
    torch.manual_seed(0)
    queries, values = torch.randn(2, 5, 4, 4), torch.randn(2, 5, 3)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    read, attention = stacked.attend_to_words(queries, values, values, mask)
    assert_close(read, torch.einsum("bct,bthw->bchw", values, attention))
    assert read.is_contiguous(memory_format=torch.channels_last)
