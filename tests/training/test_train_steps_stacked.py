"""Whole training steps of AttnGAN and DM-GAN against steps recorded from their authors' training
loops.

The recorded batch has captions of different lengths, whose masks the authors' attention mixes up;
the tests put that mix-up in, since every number after the first image depends on it. DM-GAN is
followed twice: with its authors' spectral normalisation and with ours; in both its upsampling is
the authors', since rounding alone moves its second step by 1e-3. That ours takes the same steps is
seen in double precision.
"""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from golden.authors import (
    is_parameter,
    is_running,
    mixed_up_softmax,
    original_order,
    upsample_then_convolve,
    use_authors_spectral_norm,
)
from golden.weights import Golden, stats
from torch.testing import assert_close

from t2i_supcon.conversion import load_original
from t2i_supcon.data import Batch
from t2i_supcon.models import GANS, operators, stacked
from t2i_supcon.training import GANPhase
from t2i_supcon.training.recipe import parse_recipe

RECIPE = {
    "phase": "gan",
    "encoders": "given",
    "batch_size": 3,
    "sampling": "independent",
    "loss_weights": {"d_adv": 1, "g_adv": 1, "g_kl": 1, "words": 5, "sent": 5},
    "generator_learning_rate": 2e-4,
    "discriminator_learning_rate": 2e-4,
    "betas": [0.5, 0.999],
    "ema_decay": 0.999,
    "gamma1": 4,
    "gamma2": 5,
    "gamma3": 10,
    "channels_last": False,
}


def build(arch, golden, authors_norm):
    generator = load_original(arch, "generator", golden.part("G/"))
    scales = [load_original(arch, f"discriminator{64 << i}", golden.part(f"D{i}/")) for i in range(3)]
    if authors_norm:
        for i, scale in enumerate(scales):
            use_authors_spectral_norm(scale, golden.part(f"D{i}/"))
    discriminator = GANS[arch].discriminator(scales[2].config)
    discriminator.scales = torch.nn.ModuleList(scales)
    text_encoder = load_original(arch, "text_encoder", golden.part("Etxt/"))
    image_encoder = load_original(arch, "image_encoder", golden.part("Eimg/"), align_corners=arch == "dmgan")
    return GANPhase(
        parse_recipe(RECIPE | {"model": arch}), Accelerator(), generator, discriminator, text_encoder, image_encoder
    )


def recorded_batch(golden):
    lengths = golden.inputs["cap_lens"]
    longest = int(lengths.max())
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    images = tuple(golden.image("real_lo", times) for times in (1, 2, 4))
    return Batch(images, golden.inputs["captions"][:, :longest], mask, golden.inputs["class_ids"], ("",) * 3, 1)


def check_step(terms, golden, step, tolerance):
    expected = {
        key.removeprefix(f"step{step}."): value
        for key, value in golden.outputs.items()
        if key.startswith(f"step{step}.")
    }
    total = terms["g_adv"] + terms["g_kl"] + 5 * (terms["words"] + terms["sent"])
    assert_close(terms["d_adv"], expected["errD"].sum(), rtol=tolerance, atol=0)
    assert_close(terms["words"], expected["words"].sum(), rtol=tolerance, atol=0)
    # cosines of nearly vanishing image codes: off by 3e-4
    assert_close(terms["sent"], expected["sent"].sum(), rtol=1e-3, atol=0)
    assert_close(terms["g_kl"], expected["kl"], rtol=tolerance, atol=0)
    assert_close(total, expected["errG_total"], rtol=1e-3, atol=0)


def check_weights(model, golden, prefix, recorded, arch, part, tolerance):
    weights = golden.part(prefix)
    # their u and v were parameters
    kept = [is_parameter(key) for key in weights if not is_running(key) and "num_batches" not in key]
    expected = golden.outputs[f"after.{recorded}.stats"][torch.tensor(kept)]
    after = stats(original_order(model, weights, arch, part, is_parameter))
    assert_close(after[:, 1], expected[:, 1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("arch", "authors_norm", "tolerance", "weight_tolerance"),
    [
        ("attngan", False, 1e-4, 1e-3),
        (
            "dmgan",
            True,
            1e-3,
            1e-3,
        ),  # wrong captions are scored before generated images, not after: one iteration apart, off by 4e-4
        (
            "dmgan",
            False,
            1e-3,
            1e-2,
        ),  # vectors drawn at random differ half an iteration from theirs: weights off by 5e-3
    ],
)
def test_two_steps_equal_the_original(arch, authors_norm, tolerance, weight_tolerance, monkeypatch):
    golden = Golden(f"{arch}_train_steps")
    phase = build(arch, golden, authors_norm)
    monkeypatch.setattr(stacked, "masked_softmax", mixed_up_softmax)
    if arch == "dmgan":
        monkeypatch.setattr(operators, "upsampled_conv2d", upsample_then_convolve)
    batch = recorded_batch(golden)
    generator, discriminator = phase.generator, phase.discriminator
    torch.manual_seed(4321)
    check_step(phase.train_step(batch).terms, golden, 0, tolerance)
    grads = stats(p.grad for p in original_order(generator, golden.part("G/"), arch, "generator", is_parameter))[:, 1]
    expected = golden.outputs["step0.G_grad_stats"][:, 1]
    assert_close(grads, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))

    check_step(phase.train_step(batch).terms, golden, 1, tolerance)
    check_weights(generator, golden, "G/", "G", arch, "generator", 1e-3)
    check_weights(phase.ema.module, golden, "G/", "G_ema", arch, "generator", 1e-5)
    for i, scale in enumerate(discriminator.scales):
        check_weights(scale, golden, f"D{i}/", f"D{i}", arch, f"discriminator{64 << i}", weight_tolerance)
    running = stats(original_order(generator, golden.part("G/"), arch, "generator", is_running))
    assert_close(running, golden.outputs["after.G.buffers.stats"], rtol=1e-3, atol=1e-3)


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def two_steps_in_double(arch):
    """Terms, statistics and gradient norms of two steps, and the weights after them."""
    golden = Golden(f"{arch}_train_steps")
    phase, batch = build(arch, golden, False), recorded_batch(golden)
    for network in (*phase.networks().values(), *phase.frozen_networks().values()):
        network.double()
    batch = replace(batch, images=tuple(image.double() for image in batch.images))
    torch.manual_seed(4321)
    steps = [phase.train_step(batch).by_log_name() for _ in range(2)]
    return steps, {name: network.state_dict() for name, network in phase.networks().items()}


@pytest.mark.parametrize("arch", ["attngan", "dmgan"])
def test_rearranged_upsampling_takes_the_same_steps(arch, double_precision, monkeypatch):
    ours = two_steps_in_double(arch)
    monkeypatch.setattr(operators, "upsampled_conv2d", upsample_then_convolve)
    assert_close(ours, two_steps_in_double(arch), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("arch", ["attngan", "dmgan"])
def test_what_does_not_depend_on_the_masks_is_equal_without_the_mix_up(arch):
    golden = Golden(f"{arch}_train_steps")
    phase, batch = build(arch, golden, False), recorded_batch(golden)
    text = phase.text_encoder(batch.input_ids, batch.attention_mask)
    assert_close(text.sent_emb, golden.outputs["step0.sent_emb"], atol=1e-5, rtol=1e-4)
    assert_close(text.word_embs.transpose(1, 2), golden.outputs["step0.words_embs"], atol=1e-5, rtol=1e-4)
    torch.manual_seed(4321)
    terms = phase.train_step(batch).terms
    assert_close(terms["g_kl"], golden.outputs["step0.kl"], rtol=1e-4, atol=0)
    torch.manual_seed(4321)
    for name, shape in (("noise", (3, 8)), ("eps", (3, 6))):  # drawn in this order from the recorded seed
        assert_close(torch.randn(shape), golden.inputs[name])
