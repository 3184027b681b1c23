"""What every GAN of the table must do, whichever it is."""

import pytest
import torch
from conftest import TINY, tiny_config
from torch.testing import assert_close
from transformers import AutoModel, AutoTokenizer

from t2i_supcon.models import GANS, CLIPImageEncoder, DAMSMModel, DAMSMTextEncoder

IDS = torch.tensor([[3, 4, 5], [6, 7, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def build(name):
    gan = GANS[name]
    config = tiny_config(name)
    return gan, config, gan.composite(config).eval()


def as_read(gan, config, images):
    """What the discriminator reads of images: themselves, or the features of an image encoder."""
    return (
        CLIPImageEncoder(config.image_config)(images[-1]).local_feats
        if gan.discriminator.reads_image_features
        else images
    )


def assert_same_weights(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


def test_shapes_and_ranges(gan_name):
    gan, config, model = build(gan_name)
    out = model(IDS, MASK)
    assert [tuple(image.shape) for image in out.images] == [(2, 3, size, size) for size in config.image_sizes]
    logits = gan.discriminator(config)(as_read(gan, config, out.images), torch.randn(2, 8), torch.randn(1, 8))
    assert [tuple(scale.shape) for scale in logits.cond] == [(2,)] * len(config.image_sizes)
    assert [tuple(scale.shape) for scale in logits.wrong] == [(1,)] * len(config.image_sizes)


def test_wrong_captions_go_with_the_first_images(gan_name):
    gan, config, model = build(gan_name)
    discriminator = gan.discriminator(config).eval()
    images, sentences, wrong = as_read(gan, config, model(IDS, MASK).images), torch.randn(2, 8), torch.randn(1, 8)
    together = discriminator(images, sentences, wrong)
    alone = discriminator(
        images[:1] if isinstance(images, torch.Tensor) else tuple(image[:1] for image in images), wrong
    )
    assert_close(together.wrong, alone.cond)


def test_saves_and_loads_exactly(gan_name, tmp_path):
    gan, config, model = build(gan_name)
    discriminator = gan.discriminator(config)
    model.save_pretrained(tmp_path)
    discriminator.save_pretrained(tmp_path / "discriminator")
    for loader in (gan.composite, AutoModel):
        loaded, info = loader.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is gan.composite and not any(info.values()), info
        assert_same_weights(model, loaded)
    for part, loader in ((model.generator, gan.generator), (model.text_encoder, type(model.text_encoder))):
        loaded, info = loader.from_pretrained(tmp_path, output_loading_info=True)
        assert not info["missing_keys"] and not info["mismatched_keys"]
        assert_same_weights(part, loaded)
    assert_same_weights(discriminator, gan.discriminator.from_pretrained(tmp_path, subfolder="discriminator"))


def test_initialisation_is_kept_and_restored(gan_name, tmp_path):
    """A network loaded from a checkpoint without one of its tensors starts that tensor as a new
    network would."""
    gan, config, _ = build(gan_name)
    for network_class in (gan.generator, gan.discriminator):
        network = network_class(config)
        for key in ("weight", "gamma"):
            names = [
                name for name, parameter in network.named_parameters() if name.endswith(key) and parameter.requires_grad
            ]
            if not names:
                continue
            lost = names[len(names) // 2]
            state = {name: value for name, value in network.state_dict().items() if name != lost}
            network.save_pretrained(tmp_path / "part", state_dict=state)
            loaded, info = network_class.from_pretrained(tmp_path / "part", output_loading_info=True)
            assert info["missing_keys"] == {lost}
            fresh, again = network.state_dict()[lost], loaded.state_dict()[lost]
            assert_close(again.std(correction=0), fresh.std(correction=0), rtol=0.5, atol=1e-8)
            assert_close(again.mean(), fresh.mean(), rtol=0.5, atol=float(fresh.std(correction=0)) + 1e-8)
            for name, value in state.items():
                assert torch.equal(value, loaded.state_dict()[name]), name


def test_gradients_reach_every_trainable_parameter(gan_name):
    gan, config, model = build(gan_name)
    discriminator = gan.discriminator(config)
    for module in (model, discriminator):
        for parameter in module.parameters():  # leave the points where zero-initialised branches block gradients
            with torch.no_grad():
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.train()
    out = model(IDS, MASK)
    logits = discriminator(as_read(gan, config, out.images), torch.randn(2, 8), torch.randn(1, 8))
    sum(scale.sum() for scales in (logits.cond, logits.wrong, logits.uncond) if scales for scale in scales).backward()
    for module in (model.generator, discriminator):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_seed_decides_the_images(gan_name):
    _, _, model = build(gan_name)
    first, again, other = (
        model.generate(IDS, MASK, 2, generator=torch.Generator().manual_seed(seed)).images[-1] for seed in (1, 1, 2)
    )
    assert first.shape[0] == 4
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_generate_orders_rows_prompt_by_prompt(gan_name):
    _, config, model = build(gan_name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    noise = torch.randn(4, config.noise_dim)
    both = model.generate(IDS, MASK, 2, noise=noise, generator=torch.Generator().manual_seed(0)).images[-1]
    second = model.generate(
        IDS[1:, :2], MASK[1:, :2], 2, noise=noise[2:], generator=torch.Generator().manual_seed(0)
    ).images[-1]
    if not hasattr(config, "conditioning_dim"):  # with conditioning augmentation the rows' own draws differ
        assert_close(both[2:], second, atol=1e-5, rtol=1e-4)
    assert both.abs().max() <= 1


def test_truncation_bounds_the_noise_and_bad_noise_is_refused(gan_name):
    from t2i_supcon.models.base import sample_noise

    _, config, model = build(gan_name)
    assert sample_noise((500, 4), torch.Generator().manual_seed(0), truncation=0.7).abs().max() <= 0.7
    with pytest.raises(ValueError, match="truncation is -1"):
        model.generate(IDS, MASK, truncation=-1)
    with pytest.raises(ValueError, match=r"needs? .*\(4, "):
        model.generate(IDS, MASK, 2, noise=torch.randn(3, config.noise_dim))


def test_attentions_and_masks_come_when_asked_for(gan_name):
    _, config, model = build(gan_name)
    plain = model.generate(IDS, MASK, 2, generator=torch.Generator().manual_seed(0))
    assert (
        plain.attentions is None and plain.masks is None and not {"attentions", "masks"} & set(plain)
    )  # nor does the output hold them as items
    if gan_name == "galip":
        with pytest.raises(
            ValueError,
            match="GALIPForTextToImage has no attentions to return: .* neither attends to words nor predicts masks",
        ):
            model.generate(IDS, MASK, 2, output_attentions=True)
        return
    out = model.generate(IDS, MASK, 2, generator=torch.Generator().manual_seed(0), output_attentions=True)
    for with_maps, without in zip(out.images, plain.images, strict=True):
        assert torch.equal(with_maps, without)
    if gan_name == "ssagan":
        assert out.attentions is None
        assert [tuple(mask.shape) for mask in out.masks] == [(4, 1, size, size) for size in (4, 8, 16)]
        assert all(mask.min() >= 0 and mask.max() <= 1 for mask in out.masks)
    else:
        assert out.masks is None
        assert [tuple(attention.shape) for attention in out.attentions] == [
            (4, 3, size, size) for size in config.image_sizes[:-1]
        ]
        for attention in out.attentions:
            assert attention.min() >= 0
            assert_close(attention.sum(dim=1), torch.ones_like(attention[:, 0]))
            assert (attention[2:, 2] == 0).all()  # the second prompt's padding
            assert (attention[:2, 2] > 0).any()


def test_checkpoint_of_other_sizes_is_refused(gan_name, tmp_path):
    gan, config, model = build(gan_name)
    model.save_pretrained(tmp_path)
    other = gan.config(
        **{**TINY[gan_name], "noise_dim": config.noise_dim + 1}, text_config=config.text_config.to_dict()
    )
    with pytest.raises(RuntimeError, match="size mismatch|ignore_mismatched_sizes"):
        gan.composite.from_pretrained(tmp_path, config=other)


def test_encoders_save_and_load_exactly(encoders, tokenizer, tmp_path):
    encoders.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert_same_weights(encoders, DAMSMModel.from_pretrained(tmp_path))
    assert_same_weights(encoders, AutoModel.from_pretrained(tmp_path))
    assert_same_weights(encoders.text_encoder, DAMSMTextEncoder.from_pretrained(tmp_path))
    assert AutoTokenizer.from_pretrained(tmp_path)("a red star")["input_ids"] == tokenizer("a red star")["input_ids"]
