"""What both phases promise of a step: micro-batches, clipping, and that nothing is updated by what
is not finite."""

import copy
import math
from functools import partial, partialmethod
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from conftest import TINY_CLIP_IMAGE, TINY_CLIP_TEXT, tiny_config
from torch.testing import assert_close

from t2i_supcon.data import Batch
from t2i_supcon.models import GANS, CLIPPairConfig, CLIPPairModel
from t2i_supcon.training import EncoderPhase, GANPhase
from t2i_supcon.training.checkpoint import list_checkpoints, load_checkpoint
from t2i_supcon.training.optimisation import take_step
from t2i_supcon.training.phase import StepResult
from t2i_supcon.training.recipe import parse_recipe

WEIGHTS = {
    "attngan": {"d_adv": 1, "g_adv": 1, "g_kl": 1, "words": 0.1, "sent": 0.1, "supcon": 0.1},
    "dmgan": {"d_adv": 1, "g_adv": 1, "g_kl": 1, "words": 0.1, "sent": 0.1, "supcon": 0.1},
    "ssagan": {"d_adv": 1, "d_magp": 1, "g_adv": 1, "words": 0.1, "sent": 0.1, "supcon": 0.1},
    "galip": {"d_adv": 1, "d_magp": 1, "g_adv": 1, "clip_sim": 4, "supcon": 0.1},
    "dfgan": {"d_adv": 1, "d_magp": 1, "g_adv": 1, "words": 0.1, "sent": 0.1, "supcon": 0.1},
}
STILL = {"generator_learning_rate": 0.0, "discriminator_learning_rate": 0.0}


def tiny_clip() -> CLIPPairModel:
    return CLIPPairModel(CLIPPairConfig(text_config={**TINY_CLIP_TEXT, "vocab_size": 20}, image_config=TINY_CLIP_IMAGE))


def gan_phase(encoders, name="ssagan", accumulation=1, **changes) -> GANPhase:
    torch.manual_seed(1)
    encoders = tiny_clip() if name == "galip" else encoders
    config = tiny_config(name, encoders.config.text_config.vocab_size)
    recipe = parse_recipe(
        {"phase": "gan", "model": name, "encoders": "given", "batch_size": 4, "loss_weights": WEIGHTS[name]} | changes
    )
    networks = (
        GANS[name].generator(config),
        GANS[name].discriminator(config),
        encoders.text_encoder,
        encoders.image_encoder,
    )
    return GANPhase(recipe, Accelerator(gradient_accumulation_steps=accumulation), *networks)


def encoder_phase(model, accumulation=1, **changes) -> EncoderPhase:
    name = "clip" if isinstance(model, CLIPPairModel) else "damsm"
    weights = {"clip": 1, "supcon": 1} if name == "clip" else {"words": 1, "sent": 1}
    values = {
        "phase": "encoders",
        "model": name,
        "batch_size": 4,
        "image_size": 16,
        "loss_weights": weights,
        "text_grad_clip": None,
    }
    return EncoderPhase(parse_recipe(values | changes), Accelerator(gradient_accumulation_steps=accumulation), model)


def make_batch(sizes=(16,)) -> Batch:
    ids = torch.randint(1, 9, (4, 3))
    return Batch(
        tuple(torch.rand(4, 3, s, s) * 2 - 1 for s in sizes),
        ids,
        torch.ones_like(ids),
        torch.tensor([0, 1, 0, 1]),
        ("",) * 4,
        2,
    )


def flat(result):
    """Terms and statistics of a step."""
    return result.terms | result.statistics


def gradients(network):
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def state_of(*networks):
    return [copy.deepcopy(dict(network.named_parameters())) for network in networks]


def equal_states(a, b):
    return all(torch.equal(old[name], new[name]) for old, new in zip(a, b) for name in old)


@pytest.mark.parametrize("magp_step", ["separate", "joint"])
def test_gradients_of_micro_batches_are_averaged(gan_name, magp_step, encoders):
    """At learning rates of zero, steps with one batch each meet the same networks, and their
    gradients can be averaged by hand."""
    batches = [make_batch(tiny_config(gan_name).image_sizes) for _ in range(2)]
    alone = gan_phase(encoders, gan_name, magp_step=magp_step, **STILL)
    torch.manual_seed(2)
    single = []
    for batch in batches:
        values = flat(alone.train_step(batch))
        single.append((gradients(alone.generator), gradients(alone.discriminator), values))
    together = gan_phase(encoders, gan_name, 2, magp_step=magp_step, **STILL)
    torch.manual_seed(2)
    values = flat(together.train_step(*batches))
    for i, network in enumerate((together.generator, together.discriminator)):
        found = gradients(network)
        assert found.keys() == single[0][i].keys()
        for name, gradient in found.items():
            assert_close(gradient, (single[0][i][name] + single[1][i][name]) / 2, rtol=1e-3, atol=1e-5)
    for name in values:
        assert_close(values[name], (single[0][2][name] + single[1][2][name]) / 2, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(together.generator.buffers(), alone.generator.buffers()):
        assert_close(mine, theirs)  # drawn twice, counted once


@pytest.mark.parametrize("kind", ["damsm", "clip"])
def test_gradients_of_micro_batches_are_averaged_in_phase_1(kind, encoders):
    model = tiny_clip() if kind == "clip" else encoders
    model.config.text_config.dropout = 0.0
    still = {"learning_rate": 0.0, "trunk_batch_norm": "eval"}
    alone, together = copy.deepcopy(model), copy.deepcopy(model)
    batches, single = [make_batch(), make_batch()], []
    phase = encoder_phase(alone, **still)
    for batch in batches:
        phase.train_step(batch)
        single.append(gradients(alone))
    phase = encoder_phase(together, 2, **still)
    phase.train_step(*batches)
    found = gradients(together)
    assert found.keys() == single[0].keys() and (kind == "damsm" or "logit_scale" in found)
    for name, gradient in found.items():
        assert_close(gradient, (single[0][name] + single[1][name]) / 2, rtol=1e-4, atol=1e-6)


def test_averages_schedules_and_steps_advance_once_per_step(encoders):
    phase = gan_phase(encoders, accumulation=3, ema_decay=0.5, lr_schedule="cosine", steps=4)
    (start,) = state_of(phase.generator)
    phase.train_step(*(make_batch() for _ in range(3)))
    assert phase.step == 1
    phase.train_step(*(make_batch() for _ in range(3)))
    half = (2 + 2**0.5) / 4  # of a cosine after one of four steps
    rates = [optimizer.param_groups[0]["lr"] for optimizer in (phase.g_optimizer, phase.d_optimizer)]
    recipe = phase.recipe
    assert rates == pytest.approx([recipe.generator_learning_rate * half, recipe.discriminator_learning_rate * half])
    phase = gan_phase(encoders, accumulation=3, ema_decay=0.5, lr_schedule="cosine", steps=4)
    (start,) = state_of(phase.generator)
    phase.train_step(*(make_batch() for _ in range(3)))
    for optimizer in (phase.g_optimizer, phase.d_optimizer):
        assert {int(state["step"]) for state in optimizer.state.values()} == (
            {1} if optimizer is phase.g_optimizer else {2}
        )  # its penalty's too
    for name, averaged in phase.ema.module.named_parameters():
        assert_close(averaged, (start[name] + dict(phase.generator.named_parameters())[name]) / 2)


@pytest.mark.parametrize("make", [gan_phase, encoder_phase])
def test_another_number_of_micro_batches_is_refused(make, encoders):
    with pytest.raises(ValueError, match="1 micro-batches for one step; gradient_accumulation is 2"):
        make(encoders, accumulation=2).train_step(make_batch())


def joint_norm(parameters):
    return torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()


def test_both_players_gradients_are_clipped_and_their_norms_told(encoders):
    batch, norms = make_batch(), []
    for bound in (None, 1e-3):
        phase = gan_phase(encoders, magp_step="joint", max_grad_norm=bound, discriminator_learning_rate=0.0)
        torch.manual_seed(2)
        values = phase.train_step(batch)
        norms.append([values.gradient_norms["discriminator"], values.gradient_norms["generator"]])
        for told, network in zip(norms[-1], (phase.discriminator, phase.generator)):
            assert_close(joint_norm(network.parameters()), torch.tensor(bound) if bound else told, rtol=1e-3, atol=0)
    assert_close(*norms)


def test_the_text_encoder_is_clipped_before_both(encoders):
    phase = encoder_phase(encoders, text_grad_clip=0.02, max_grad_norm=0.01)
    told = phase.train_step(make_batch()).gradient_norms["encoders"]
    assert told > 0.1
    assert_close(joint_norm(encoders.parameters()), torch.tensor(0.01), rtol=1e-3, atol=0)
    assert joint_norm(encoders.text_encoder.parameters()) < 0.01


def test_a_term_that_is_no_number_stops_before_the_update(encoders):
    phase = gan_phase(encoders)
    phase.train_step(make_batch())
    before, bad = state_of(phase.generator, phase.discriminator), make_batch()
    bad.images[0][0, 0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="step 2: d_adv is nan; the update was not made"):
        phase.train_step(bad)
    assert equal_states(before, state_of(phase.generator, phase.discriminator))
    phase = encoder_phase(encoders)
    before = state_of(encoders)
    with pytest.raises(FloatingPointError, match="step 1: words is nan"):
        phase.train_step(bad)
    assert equal_states(before, state_of(encoders))


@pytest.mark.parametrize(("player", "moved"), [("generator", True), ("discriminator", False)])
def test_an_infinite_gradient_stops_its_player(encoders, player, moved):
    phase = gan_phase(encoders, magp_step="joint")
    next(getattr(phase, player).parameters()).register_hook(partial(torch.full_like, fill_value=float("inf")))
    g, d = state_of(phase.generator, phase.discriminator)
    with pytest.raises(FloatingPointError, match=f"grad_norm/{player} is inf"):
        phase.train_step(make_batch())
    assert equal_states([g], state_of(phase.generator))
    assert equal_states([d], state_of(phase.discriminator)) != moved  # it plays first


def test_logits_and_contrast_are_told(encoders):
    phase = gan_phase(encoders, magp_step="joint", **STILL)
    batch = make_batch()
    values = phase.train_step(batch).statistics
    text = phase.text_encoder(batch.input_ids, batch.attention_mask)
    scores = phase.discriminator(batch.images, text.sent_emb, text.sent_emb[1:])
    assert_close(values["d_real"], scores.cond[0].mean().detach())
    assert_close(values["d_wrong"], scores.wrong[0].mean().detach())
    assert_close(values["sent_square"], (text.sent_emb**2).mean().detach())
    assert values["positives"] == 3  # of each text and image: its partner's two and the other one of its own row
    assert 0 <= values["alignment"] <= 4 and values["uniformity"] <= 0


def test_compiled_networks_take_the_same_step(encoders, monkeypatch):
    """Traced and differentiated as always; only the generation of machine code, minutes long, is
    left out."""
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    batch, steps = make_batch(), []
    for compiled in (False, True):
        phase = gan_phase(encoders, compile=compiled, ema_decay=0.5, loss_weights={"d_adv": 1, "g_adv": 1})
        torch.manual_seed(2)
        values = phase.train_step(batch).by_log_name()
        steps.append(
            (values, gradients(phase.generator), gradients(phase.discriminator), phase.ema.module.state_dict())
        )
    for eager, fast in zip(*steps):
        assert eager.keys() == fast.keys()
        for name, value in eager.items():
            assert_close(fast[name], value, rtol=1e-3, atol=1e-4)
    # its penalty needs a second derivative
    assert gan_phase(encoders, compile=True).discriminator._compiled_call_impl is None


def test_the_scale_of_fp16_gradients_and_skipped_updates_are_logged():
    class Skipping(torch.optim.SGD):
        step_was_skipped = True

    accelerator = SimpleNamespace(
        scaler=torch.amp.GradScaler("cpu", init_scale=8.0), unscale_gradients=lambda optimizer: None
    )
    weight = torch.nn.Parameter(torch.ones(1))
    (weight * float("inf")).backward()
    accelerator.scaler.scale(torch.zeros(1))
    values = take_step(accelerator, Skipping([weight]), StepResult({"words": torch.tensor(1.0)}), "encoders", 0)
    assert values.statistics["gradient_scale"] == 8 and values.statistics["skipped_encoders"] == 1
    assert values.gradient_norms["encoders"].isinf()


def test_the_learning_rate_follows_the_schedule(tiny_data, phase1):
    """A checkpoint holds the rate of the step before it."""
    states = [load_checkpoint(path) for path in list_checkpoints(phase1 / "checkpoints")]
    assert [state["step"] for state in states] == [3, 4, 6, 7]  # 4: of the evaluation that may find the best model
    rates = [state["phase"]["optimizer"]["param_groups"][0]["lr"] for state in states]
    assert rates == pytest.approx([2e-3 * (1 + math.cos(math.pi * taken / 7)) / 2 for taken in (2, 3, 5, 6)])
