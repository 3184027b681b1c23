"""Whole training steps against steps recorded from the authors' training loop."""

import pytest
import torch
from accelerate import Accelerator
from golden.weights import Golden, stats
from torch.testing import assert_close

from t2i_supcon.conversion import CONVERSIONS, load_original, rename
from t2i_supcon.data import Batch
from t2i_supcon.models import DAMSMImageConfig, DAMSMImageEncoder
from t2i_supcon.training import GANPhase
from t2i_supcon.training.recipe import parse_recipe

SSAGAN = {
    "phase": "gan",
    "model": "ssagan",
    "encoders": "given",
    "batch_size": 3,
    "sampling": "independent",
    "loss_weights": {"d_adv": 1, "d_magp": 1, "g_adv": 1, "words": 0.05, "sent": 0.05},
    "generator_learning_rate": 1e-4,
    "discriminator_learning_rate": 4e-4,
    "betas": [0, 0.9],
    "magp_step": "separate",
    "gamma1": 5,
    "gamma2": 5,
    "gamma3": 10,
    "channels_last": False,
}


GALIP = {
    "phase": "gan",
    "model": "galip",
    "encoders": "given",
    "batch_size": 3,
    "sampling": "independent",
    "loss_weights": {"d_adv": 1, "d_magp": 1, "g_adv": 1, "clip_sim": 4},
    "generator_learning_rate": 1e-4,
    "discriminator_learning_rate": 4e-4,
    "betas": [0, 0.9],
    "magp_step": "joint",
    "wrong_captions": "rotated",
    "channels_last": False,
}


DFGAN = GALIP | {"model": "dfgan", "loss_weights": {"d_adv": 1, "d_magp": 1, "g_adv": 1}}


def original_order(model, golden, prefix, part, select=lambda key: True, arch="ssagan", key_prefix=""):
    """This model's tensors in the order of the original's state dict."""
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    names = [rename(key_prefix + key, CONVERSIONS[arch, part].rules) for key in golden.part(prefix) if select(key)]
    return [own[name] for name in names]


def is_parameter(key):
    return "running_" not in key and "num_batches" not in key


def outputs_of_step(golden, step):
    """What the original code computed in one step, by name."""
    start = f"step{step}."
    return {key.removeprefix(start): value for key, value in golden.outputs.items() if key.startswith(start)}


def assert_gradients_of_the_generator(generator, golden, expected, arch):
    """By their norms, in the order of the authors' parameters."""
    grads = stats(p.grad for p in original_order(generator, golden, "G/", "generator", arch=arch))
    assert_close(grads[:, 1], expected[:, 1], rtol=1e-4, atol=1e-4 * float(expected[:, 1].max()))


def assert_weights_after_training(generator, discriminator, golden, arch):
    """By their norms; the authors' discriminator is a network and a head, netD and netC."""
    for model, prefix, part, names in (
        (generator, "G", "generator", ""),
        (discriminator, "D", "discriminator", "netD."),
        (discriminator, "C", "discriminator", "netC."),
    ):
        after = stats(original_order(model, golden, f"{prefix}/", part, arch=arch, key_prefix=names))
        assert_close(after[:, 1], golden.outputs[f"after.{prefix}.stats"][:, 1], rtol=1e-4, atol=1e-5)


def test_two_steps_of_ssagan_equal_the_original():
    golden = Golden("ssagan_train_steps")
    generator = load_original("ssagan", "generator", golden.part("G/"))
    discriminator = load_original("ssagan", "discriminator", golden.part("D/"))
    text_encoder = load_original("ssagan", "text_encoder", golden.part("Etxt/"))
    image_encoder = load_original("ssagan", "image_encoder", golden.part("Eimg/"), align_corners=False)
    phase = GANPhase(parse_recipe(SSAGAN), Accelerator(), generator, discriminator, text_encoder, image_encoder)
    lengths = golden.inputs["cap_lens"]
    longest = int(lengths.max())
    batch = Batch(
        images=(golden.image("real_lo", 4),),
        input_ids=golden.inputs["captions"][:, :longest],
        attention_mask=(torch.arange(longest)[None] < lengths[:, None]).long(),
        labels=golden.inputs["class_ids"],
        captions=("",) * 3,
        num_views=1,
    )
    torch.manual_seed(99)
    first = {name: float(term) for name, term in phase.train_step(batch).terms.items()}
    expected = {key.removeprefix("step0."): value for key, value in golden.outputs.items() if key.startswith("step0.")}
    assert first["d_adv"] == pytest.approx(float(expected["errD"]), rel=1e-4)
    # of the discriminator after its first Adam step
    assert first["d_magp"] == pytest.approx(float(expected["d_loss"]), rel=1e-3)
    assert first["g_adv"] == pytest.approx(float(expected["errG"]), rel=1e-3)
    assert 0.05 * (first["words"] + first["sent"]) == pytest.approx(float(expected["DAMSM"]), rel=1e-4)
    grads = stats(p.grad for p in original_order(generator, golden, "G/", "generator", is_parameter))
    assert_close(
        grads[:, 1], expected["G_grad_stats"][:, 1], rtol=1e-3, atol=1e-3 * float(expected["G_grad_stats"][:, 1].max())
    )

    second = {name: float(term) for name, term in phase.train_step(batch).terms.items()}
    expected = {
        key.removeprefix("step1."): float(value)
        for key, value in golden.outputs.items()
        if key.startswith("step1.") and value.dim() == 0
    }
    assert second["d_adv"] == pytest.approx(expected["errD"], rel=1e-3)
    assert second["d_magp"] == pytest.approx(expected["d_loss"], rel=5e-3)
    assert second["g_adv"] == pytest.approx(expected["errG"], rel=1e-3)
    assert 0.05 * (second["words"] + second["sent"]) == pytest.approx(expected["DAMSM"], rel=1e-3)
    for model, prefix, part in ((generator, "G", "generator"), (discriminator, "D", "discriminator")):
        after = stats(original_order(model, golden, f"{prefix}/", part, is_parameter))
        assert_close(after[:, 1], golden.outputs[f"after.{prefix}.stats"][:, 1], rtol=1e-3, atol=1e-3)
    buffers = stats(original_order(generator, golden, "G/", "generator", lambda key: "running_" in key))
    assert_close(buffers, golden.outputs["after.G.buffers.stats"], rtol=1e-3, atol=1e-3)


def galip_text_encoder(clip, ids, sentences):
    """CLIP's text tower with the projection that takes these captions to exactly these recorded
    sentences."""
    with torch.no_grad():
        states = clip.text_encoder(ids).word_embs[:, -1]  # (B, W) with B <= W: any B sentences can be reached
        clip.text_encoder.projection.weight.copy_((torch.linalg.pinv(states.double()) @ sentences.double()).T)
        assert_close(clip.text_encoder(ids).sent_emb, sentences, atol=1e-5, rtol=1e-5)
    return clip.text_encoder


def test_two_steps_of_galip_equal_the_original():
    golden = Golden("galip_train_steps")
    heads = {"num_attention_heads": 4}
    clip = load_original(
        "galip", "clip", golden.part("clip/"), image_config=heads, text_config={"num_attention_heads": 2}
    )
    tower = {
        f"mapping.CLIP_ViT.{key}": value
        for key, value in golden.part("clip/visual.").items()
        if "ln_post" not in key and key != "proj"
    }
    generator = load_original("galip", "generator", golden.part("G/") | tower, image_config=heads)
    judges = {
        f"net{key.replace('/', '.')}": value for key, value in golden.weights.items() if key.startswith(("D/", "C/"))
    }
    discriminator = load_original("galip", "discriminator", judges, image_config=heads)
    ids = torch.arange(1, 13).view(3, 4)
    text_encoder = galip_text_encoder(clip, ids, golden.inputs["sent_emb"])
    phase = GANPhase(parse_recipe(GALIP), Accelerator(), generator, discriminator, text_encoder, clip.image_encoder)
    batch = Batch((golden.image("real_lo", 4),), ids, torch.ones_like(ids), torch.arange(3), ("",) * 3, 1)
    frozen = {key: value.clone() for key, value in generator.vision.state_dict().items()}

    torch.manual_seed(77)
    for step in (0, 1):
        terms = {name: float(term) for name, term in phase.train_step(batch).terms.items()}
        expected = outputs_of_step(golden, step)
        assert terms["d_magp"] == pytest.approx(float(expected["errD_MAGP"]), rel=1e-4)
        assert terms["d_adv"] + terms["d_magp"] == pytest.approx(float(expected["errD"]), rel=1e-4)
        hinge = float(expected["errD_real"] + (expected["errD_fake"] + expected["errD_mis"]) / 2)
        assert terms["d_adv"] == pytest.approx(hinge, rel=1e-4)
        assert terms["clip_sim"] == pytest.approx(-float(expected["text_img_sim"]), rel=1e-4)
        assert terms["g_adv"] + 4 * terms["clip_sim"] == pytest.approx(float(expected["errG"]), rel=1e-4)
        if step == 0:
            assert_gradients_of_the_generator(generator, golden, expected["G_grad_stats"], "galip")

    assert_weights_after_training(generator, discriminator, golden, "galip")
    assert all(torch.equal(value, frozen[key]) for key, value in generator.vision.state_dict().items())
    assert all(parameter.grad is None for module in (generator.vision, clip) for parameter in module.parameters())


def test_two_steps_of_dfgan_equal_the_original(monkeypatch):
    """Its authors pair image i + 1 with sentence i, `rotated` the other way round: the same of rows
    in reversed order."""
    golden = Golden("dfgan_train_steps")
    generator = load_original("dfgan", "generator", golden.part("G/"))
    judges = {
        f"net{key.replace('/', '.')}": value for key, value in golden.weights.items() if key.startswith(("D/", "C/"))
    }
    discriminator = load_original("dfgan", "discriminator", judges)
    text_encoder = load_original("dfgan", "text_encoder", golden.part("Etxt/"))
    unused = DAMSMImageEncoder(DAMSMImageConfig(hidden_size=32, image_size=75, channel_divisor=16))
    phase = GANPhase(parse_recipe(DFGAN), Accelerator(), generator, discriminator, text_encoder, unused)
    torch.manual_seed(99)
    noises = [torch.randn(3, 100) for _ in range(2)]
    assert_close(noises[0], golden.inputs["noise"])
    draws = iter(noises)
    monkeypatch.setattr(torch, "randn", lambda *shape, **kwargs: next(draws).flip(0))
    lengths = golden.inputs["cap_lens"].flip(0)
    longest = int(lengths.max())
    batch = Batch(
        images=(golden.image("real_lo", 4).flip(0),),
        input_ids=golden.inputs["captions"].flip(0)[:, :longest],
        attention_mask=(torch.arange(longest)[None] < lengths[:, None]).long(),
        labels=torch.arange(3),
        captions=("",) * 3,
        num_views=1,
    )
    for step in (0, 1):
        terms = {name: float(term) for name, term in phase.train_step(batch).terms.items()}
        expected = outputs_of_step(golden, step)
        hinge = float(expected["errD_real"] + (expected["errD_fake"] + expected["errD_mis"]) / 2)
        assert terms["d_adv"] == pytest.approx(hinge, rel=1e-4)
        assert terms["d_magp"] == pytest.approx(float(expected["errD_MAGP"]), rel=1e-3)
        assert terms["d_adv"] + terms["d_magp"] == pytest.approx(float(expected["errD"]), rel=1e-4)
        assert terms["g_adv"] == pytest.approx(float(expected["errG"]), rel=1e-4)
        if step == 0:
            assert_gradients_of_the_generator(generator, golden, expected["G_grad_stats"], "dfgan")
    assert_weights_after_training(generator, discriminator, golden, "dfgan")
