"""GALIP against its authors' code."""

import pytest
import torch
from conftest import tiny_config
from golden.weights import Golden, stats
from torch.testing import assert_close
from transformers import AutoModel

from t2i_supcon.conversion import CONVERSIONS, load_original, rename
from t2i_supcon.losses import (
    cosine_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    matching_aware_gradient_penalty,
)
from t2i_supcon.models import (
    CLIPImageEncoder,
    CLIPTextEncoder,
    GALIPConfig,
    GALIPDiscriminator,
    GALIPForTextToImage,
    GALIPGenerator,
    SSAGANDiscriminator,
)

TOWER = {"num_attention_heads": 4}


def load_discriminator(golden) -> GALIPDiscriminator:
    state = {f"net{key.replace('/', '.')}": value for key, value in golden.weights.items()}
    return load_original("galip", "discriminator", state, image_config=TOWER)


def grads(model, part, keys):
    """Gradients in the order of the original's parameters, None for its frozen tower."""
    parameters = dict(model.named_parameters())
    names = [None if "CLIP_ViT" in key else rename(key, CONVERSIONS["galip", part].rules) for key in keys]
    return [None if name is None else parameters[name].grad for name in names]


def assert_same_grads(model, part, keys, expected):
    found = stats(grads(model, part, keys))
    assert_close(found[:, 1], expected[:, 1], rtol=1e-4, atol=1e-4)  # norms
    assert_close(found[:, 2], expected[:, 2], rtol=1e-3, atol=1e-4 * float(expected[:, 1].max()))  # first elements


def assert_relative(found, expected, rtol=1e-4):
    assert float((found - expected).norm() / expected.norm()) < rtol


def test_generator_equals_the_original():
    golden = Golden("galip_generator")
    model = load_original("galip", "generator", golden.weights, image_config=TOWER)
    seen = {}
    for name in ("to_tokens", "to_prompts", "from_tokens"):
        getattr(model, name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output})
        )
    noise, sentence = golden.inputs["z"].requires_grad_(), golden.inputs["sent_emb"].requires_grad_()
    (image,) = model(noise, sentence).images
    expected = golden.outputs
    assert_close(seen["to_tokens"], expected["fuse_feat"], rtol=1e-4, atol=2e-4)
    assert_close(seen["to_prompts"].unflatten(1, (8, -1)), expected["prompts"], rtol=1e-4, atol=2e-4)
    assert_close(
        model.visual_concepts(expected["fuse_feat"], expected["prompts"]), expected["map_feat"], rtol=1e-4, atol=2e-4
    )
    assert_close(seen["from_tokens"], expected["mapping_out"], rtol=1e-4, atol=2e-4)
    # weights drawn like these, without normalisation and without tanh, give images with values in
    # the thousands
    scale = float(expected["img_s4"].abs().max())
    assert_close(image[..., ::4, ::4] / scale, expected["img_s4"] / scale, atol=2e-5, rtol=0)
    assert_close(image[:, :, 96:128, 96:128] / scale, expected["img_crop"] / scale, atol=2e-5, rtol=0)
    loss = image.square().mean()
    assert_close(loss, expected["probe_loss"], rtol=1e-4, atol=0)
    loss.backward()
    assert_relative(noise.grad, expected["grad_z"])
    assert_relative(sentence.grad, expected["grad_sent_emb"])
    found = stats(grads(model, "generator", golden.weights))
    # sums over 224 x 224 positions: float32 and float64 already differ by 1e-4 in the last block,
    # elsewhere by 3e-5
    last = torch.tensor([key.startswith("GBlocks.5") for key in golden.weights])
    for rows, rtol in ((last, 3e-4), (~last, 1e-4)):
        assert_close(found[rows, 1], expected["param_grad_stats"][rows, 1], rtol=rtol, atol=0)
    assert all(parameter.grad is None for parameter in model.vision.parameters())


def test_discriminator_loss_equals_the_original():
    golden = Golden("galip_discriminator")
    model = load_discriminator(golden)
    features, sentence = golden.inputs["feats"].requires_grad_(), golden.inputs["sent_emb"].requires_grad_()
    real = model(features, sentence, sentence.detach().roll(-1, 0))
    fake = model(golden.inputs["feats_fake"], sentence)
    expected = golden.outputs
    assert_close(real.cond[0], expected["pred_real"].flatten(), atol=2e-5, rtol=1e-4)
    assert_close(torch.relu(1 - real.cond[0]).mean(), expected["errD_real"], rtol=1e-4, atol=0)
    assert_close(torch.relu(1 + real.wrong[0]).mean(), expected["errD_mis"], rtol=1e-4, atol=0)
    assert_close(torch.relu(1 + fake.cond[0]).mean(), expected["errD_fake"], rtol=1e-4, atol=0)
    penalty = matching_aware_gradient_penalty(real.cond[0], (features, sentence))
    assert_close(penalty, expected["errD_MAGP"], rtol=1e-4, atol=0)
    loss = hinge_discriminator_loss(real.cond[0], fake.cond[0], real.wrong[0]) + penalty
    assert_close(loss, expected["errD"], rtol=1e-4, atol=0)
    loss.backward()
    assert_relative(features.grad, expected["errD.grad_feats"])
    assert_relative(sentence.grad, expected["errD.grad_sent"])
    for network in "DC":
        keys = [f"net{key.replace('/', '.')}" for key in golden.weights if key.startswith(network)]
        assert_same_grads(model, "discriminator", keys, expected[f"errD.param_grad_stats.{network}"])


def test_generator_loss_equals_the_original():
    golden = Golden("galip_discriminator")
    model = load_discriminator(golden)
    features, emb, sentence = (golden.inputs[name].requires_grad_() for name in ("feats_fake", "fake_emb", "sent_emb"))
    similarity = cosine_matching_loss(emb, sentence)
    assert_close(-similarity, golden.outputs["text_img_sim"], rtol=1e-4, atol=0)
    loss = hinge_generator_loss(model(features, sentence).cond[0]) + 4.0 * similarity
    assert_close(loss, golden.outputs["errG"], rtol=1e-4, atol=0)
    loss.backward()
    for tensor, name in ((features, "feats_fake"), (emb, "fake_emb"), (sentence, "sent")):
        assert_relative(tensor.grad, golden.outputs[f"errG.grad_{name}"])


def test_discriminator_pairs_first_images_with_wrong_captions():
    golden = Golden("galip_discriminator")
    model = load_discriminator(golden)
    features, sentence = golden.inputs["feats"], golden.inputs["sent_emb"]
    wrong = model(features, sentence, sentence[[3, 0]]).wrong[0]
    assert_close(wrong, model(features[:2], sentence[[3, 0]]).cond[0])


def test_a_new_generator_draws_without_its_sentence_but_for_the_prompts():
    generator = GALIPGenerator(tiny_config("galip"))
    with torch.no_grad():
        generator.to_prompts.weight[:, 6:].zero_()  # behind the noise
    noise = torch.randn(2, 6)
    one, other = generator(noise, torch.randn(2, 8)).images[0], generator(noise, torch.randn(2, 8)).images[0]
    assert torch.equal(one, other)


def test_published_sizes_have_the_published_parameter_counts():
    with torch.device("meta"):
        generator, discriminator = GALIPGenerator(GALIPConfig()), GALIPDiscriminator(GALIPConfig())
    assert sum(p.numel() for p in generator.parameters()) == 139_284_675
    assert sum(p.numel() for p in generator.parameters() if p.requires_grad) == 51_830_211
    head = sum(p.numel() for p in discriminator.joint.parameters())
    assert head == 2_099_200
    assert sum(p.numel() for p in discriminator.parameters()) - head == 28_706_821


@pytest.mark.parametrize(
    ("image_size", "clip_size", "sizes"), [(64, 16, (8, 16, 32, 64)), (24, 28, (8, 16, 24)), (8, 20, (8,))]
)
def test_other_sizes_run_the_same_code(image_size, clip_size, sizes):
    config = tiny_config("galip")
    config.image_size, config.image_config.image_size = image_size, clip_size
    assert config.block_sizes == sizes
    noise, sentence = torch.randn(2, 6), torch.randn(2, 8)
    (image,) = GALIPGenerator(config)(noise, sentence).images
    assert image.shape == (2, 3, image_size, image_size)
    features = CLIPImageEncoder(config.image_config)(image).local_feats
    assert features.shape == (2, 2, 8, clip_size // 4, clip_size // 4)
    assert GALIPDiscriminator(config)(features, sentence, sentence[1:]).cond[0].shape == (2,)


def test_one_folder_serves_composite_generator_and_text_tower(tmp_path):
    model = GALIPForTextToImage(tiny_config("galip")).eval()
    with torch.no_grad():  # the fresh network ignores its sentence
        for parameter in model.generator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    ids, noise = torch.randint(1, 20, (2, 5)), torch.randn(2, 6)
    expected = model(ids, noise=noise).images[0]
    for loader in (GALIPForTextToImage, AutoModel):
        again, info = loader.from_pretrained(tmp_path, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert torch.equal(again(ids, noise=noise).images[0], expected)
        assert not any(parameter.requires_grad for parameter in again.generator.vision.parameters())
    text, info = CLIPTextEncoder.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    generator, info = GALIPGenerator.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(generator(noise, text(ids).sent_emb).images[0], expected)
    trained = {name for name, parameter in model.generator.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in generator.named_parameters() if parameter.requires_grad} == trained


def test_generated_images_are_clamped():
    model = GALIPForTextToImage(tiny_config("galip")).eval()
    with torch.no_grad():
        model.generator.to_rgb[1].weight.mul_(1000)
    (image,) = model.generate(torch.randint(1, 20, (2, 5)), num_images_per_prompt=2).images
    assert image.shape == (4, 3, 16, 16)
    assert image.min() == -1 and image.max() == 1


@pytest.mark.parametrize("cls", [GALIPDiscriminator, SSAGANDiscriminator])
def test_reloaded_discriminators_keep_their_unused_shortcuts_frozen(cls, tmp_path):
    model = cls(tiny_config("galip" if cls is GALIPDiscriminator else "ssagan"))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    model.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    assert {name for name, parameter in again.named_parameters() if not parameter.requires_grad} == frozen
    assert bool(frozen) == (cls is GALIPDiscriminator)  # the tiny SSA-GAN widens in every block


def test_generator_takes_over_a_trained_tower():
    config = tiny_config("galip")
    encoder, generator = CLIPImageEncoder(config.image_config), GALIPGenerator(config)
    generator.copy_vision_tower(encoder)
    own, source = generator.vision.state_dict(), encoder.vision.state_dict()
    assert own.keys() == {key for key in source if not key.startswith("post_layernorm")}
    assert all(torch.equal(value, source[key]) for key, value in own.items())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 4}, "image_size is 4"),
        ({"mapper_channels": 5}, "mapper_channels is 5"),
        ({"prompt_layers": [1, 12]}, "prompt_layers are"),
    ],
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(Exception, match=message):
        GALIPConfig(**fields)
