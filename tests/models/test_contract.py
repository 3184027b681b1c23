"""What every GAN of the table must do, whichever it is."""

import pytest
import torch
from conftest import TINY, tiny_config
from torch.testing import assert_close
from transformers import AutoModel, AutoTokenizer

from t2i_supcon.models import GANS, CLIPImageEncoder, DAMSMModel, DAMSMTextEncoder, draw_images, seeded_generator

IDS = torch.tensor([[3, 4, 5], [6, 7, 0]])
MAPS = {"attngan": "attentions", "dmgan": "attentions", "ssagan": "masks", "galip": None, "dfgan": None}
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


def test_only_owners_say_how_parameters_start(gan_name):
    """The library never calls `reset_parameters` of a module whose parameters and buffers are all
    its children's, but that of each child."""
    gan, config, model = build(gan_name)
    for network in (model, gan.discriminator(config)):
        for name, module in network.named_modules():
            if hasattr(module, "reset_parameters"):
                assert [*module.parameters(recurse=False), *module.buffers(recurse=False)], name


def test_gradients_reach_every_trainable_parameter(gan_name):
    torch.manual_seed(1)  # by chance, a layer of eight rectified units may be silent
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


def perturbed(model):
    """Leaves the points where zero-initialised branches make all prompts alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def noises(config, rows):
    return {"noise": torch.randn(rows, config.noise_dim)} | (
        {"conditioning_noise": torch.randn(rows, config.conditioning_dim)}
        if hasattr(config, "conditioning_dim")
        else {}
    )


def test_generate_orders_rows_prompt_by_prompt(gan_name):
    _, config, model = build(gan_name)
    perturbed(model)
    given = noises(config, 4)
    both = model.generate(IDS, MASK, 2, **given).images[-1]
    second = model.generate(IDS[1:, :2], MASK[1:, :2], 2, **{name: noise[2:] for name, noise in given.items()}).images[
        -1
    ]
    assert_close(both[2:], second, atol=1e-5, rtol=1e-4)
    assert both.abs().max() <= 1 and not torch.equal(both[:2], both[2:])


def test_with_its_noises_given_drawing_is_a_function(gan_name):
    _, config, model = build(gan_name)
    perturbed(model)
    given = noises(config, 2)
    torch.manual_seed(1)
    drawn = model.generate(IDS, MASK, **given)
    torch.manual_seed(2)
    assert all(torch.equal(*pair) for pair in zip(drawn.images, model.generate(IDS, MASK, **given).images))
    out = model(IDS, MASK, **given)
    for image, same, raw in zip(drawn.images, model(IDS, MASK, **given).images, out.images, strict=True):
        assert torch.equal(raw, same)
        assert_close(image, raw.clamp(-1, 1), atol=1e-5, rtol=1e-4)
    for name in given:
        moved = given | {name: given[name] + 1}
        assert not torch.equal(model.generate(IDS, MASK, **moved).images[-1], drawn.images[-1]), name


def test_an_image_depends_on_the_seed_its_prompt_and_its_number_alone(gan_name):
    """Not on the prompts beside it, their order and padding, nor on the number of images."""
    _, _, model = build(gan_name)
    perturbed(model)

    def draw(ids, mask, number):
        return model.generate(ids, mask, number, generator=seeded_generator(5)).images[-1]

    both, alone = draw(IDS, MASK, 3), draw(IDS[1:, :2], MASK[1:, :2], 2)
    assert torch.equal(both[3:5], alone)
    assert torch.equal(draw(IDS.flip(0), MASK.flip(0), 3), both.roll(3, dims=0))
    own = model.generate(IDS, MASK, 1, generator=[seeded_generator(6), seeded_generator(5)]).images[-1]
    assert torch.equal(own[1], alone[0]) and not torch.equal(own[0], both[0])
    free = model.generate(IDS[:1].expand(2, -1)).images[-1]
    assert not torch.equal(free[0], free[1])  # without a generator each row has its own noise


def test_the_padding_of_a_caption_changes_no_bit_of_its_picture(gan_name):
    _, _, model = build(gan_name)
    perturbed(model)
    long, short = torch.arange(3, 11)[None], torch.arange(5, 8)[None]
    padded = torch.cat([long, torch.nn.functional.pad(short, (0, 5))])
    mask = (torch.arange(8)[None] < torch.tensor([[8], [3]])).long()
    maps = {"output_attentions": True} if MAPS[gan_name] else {}
    both = model.generate(padded, mask, 2, generator=seeded_generator(5), **maps)
    alone = model.generate(short, mask[1:, :3], 2, generator=seeded_generator(5), **maps)
    assert all(torch.equal(image[2:], same) for image, same in zip(both.images, alone.images, strict=True))
    for attention, same in zip(both.attentions or (), alone.attentions or (), strict=True):
        assert torch.equal(attention[2:, :3], same) and (attention[2:, 3:] == 0).all()
        assert (attention[:2, 3:] > 0).any()


def test_drawing_happens_in_evaluation_mode_and_leaves_the_mode_alone(gan_name):
    """A new model is in training mode, where BatchNorm mixes the rows and dropout loses words."""
    _, config, model = build(gan_name)
    perturbed(model)
    given = noises(config, 2)
    expected = model.generate(IDS, MASK, **given).images[-1]
    model.train()
    model.text_encoder.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert torch.equal(model.generate(IDS, MASK, **given).images[-1], expected)
    assert model.training and model.generator.training and not model.text_encoder.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_rows_drawn_together_equal_rows_drawn_one_by_one(gan_name):
    _, config, model = build(gan_name)
    perturbed(model)
    given = noises(config, 6)
    together, single = (
        draw_images(model.text_encoder, model.generator, IDS, MASK, **given, rows_at_once=rows) for rows in (64, 1)
    )
    assert together.keys() == single.keys()
    for name in together:
        assert_close(together[name], single[name], atol=1e-5, rtol=1e-4)


def test_forward_gives_a_tuple_or_attentions_when_asked_to(gan_name):
    _, config, model = build(gan_name)
    given = noises(config, 2)
    output = model(IDS, MASK, **given)
    as_tuple = model(IDS, MASK, **given, return_dict=False)
    assert type(as_tuple) is tuple and len(as_tuple) == len(output)
    assert all(torch.equal(*pair) for pair in zip(as_tuple[0], output.images, strict=True))
    assert output.attentions is None and output.masks is None
    mapped = model(IDS, MASK, **given, output_attentions=True)
    maps = mapped.attentions or mapped.masks
    assert (maps is None) == (MAPS[gan_name] is None)
    if maps:
        assert all(torch.equal(*pair) for pair in zip(mapped.images, output.images, strict=True))


def test_word_vectors_can_be_read_and_replaced(gan_name):
    _, config, model = build(gan_name)
    table = model.get_input_embeddings()
    assert table.weight.shape[0] == config.text_config.vocab_size
    order = [*range(3), 4, 3, *range(5, len(table.weight))]  # words 3 and 4 change places
    replaced = torch.nn.Embedding.from_pretrained(table.weight[order])
    expected = model.text_encoder(IDS, MASK).sent_emb
    model.set_input_embeddings(replaced)
    assert model.get_input_embeddings() is replaced
    assert_close(model.text_encoder(torch.tensor(order)[IDS], MASK).sent_emb, expected)


def test_attentions_and_masks_come_when_asked_for(gan_name):
    _, config, model = build(gan_name)
    plain = model.generate(IDS, MASK, 2, generator=torch.Generator().manual_seed(0))
    # nor does the output hold them as items
    assert plain.attentions is None and plain.masks is None and not {"attentions", "masks"} & set(plain)
    if MAPS[gan_name] is None:
        with pytest.raises(
            ValueError,
            match="ForTextToImage has no attentions to return: .* neither attends to words nor predicts masks",
        ):
            model.generate(IDS, MASK, 2, output_attentions=True)
        return
    out = model.generate(IDS, MASK, 2, generator=torch.Generator().manual_seed(0), output_attentions=True)
    for with_maps, without in zip(out.images, plain.images, strict=True):
        assert torch.equal(with_maps, without)
    if MAPS[gan_name] == "masks":
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


def test_models_load_by_the_librarys_own_argument_names(gan_name, tmp_path):
    composite = GANS[gan_name].composite(tiny_config(gan_name))
    state = composite.state_dict()
    again = GANS[gan_name].composite.from_pretrained(
        pretrained_model_name_or_path=None, config=composite.config, state_dict=state
    )
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
