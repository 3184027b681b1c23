"""Phase 2's promises beyond the recorded steps: who is trained, who is frozen, what is computed."""

import copy
import dataclasses
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import TINY, TINY_CLIP_IMAGE, tiny_config, tiny_text
from torch.testing import assert_close

from t2i_supcon.data import Batch, load_rows
from t2i_supcon.models import GANS, CLIPPairConfig, CLIPPairModel, GALIPForTextToImage
from t2i_supcon.training import GANPhase
from t2i_supcon.training.distributed import next_captions
from t2i_supcon.training.gan_phase import MicroBatch
from t2i_supcon.training.recipe import parse_recipe

WEIGHTS = {"d_adv": 1, "d_magp": 1, "g_adv": 1, "words": 0.1, "sent": 0.1, "supcon": 0.1}


def make_phase(encoders, accelerator=None, model="ssagan", **changes):
    config = tiny_config(model, encoders.config.text_config.vocab_size)
    values = {
        "phase": "gan",
        "model": model,
        "encoders": "given",
        "batch_size": 4,
        "loss_weights": WEIGHTS,
        "magp_step": "joint",
    }
    gan = GANS[model]
    networks = gan.generator(config), gan.discriminator(config), encoders.text_encoder, encoders.image_encoder
    return GANPhase(parse_recipe(values | changes), accelerator or Accelerator(), *networks)


@pytest.fixture
def batch():
    ids = torch.tensor([[1, 2, 3], [4, 5, 0], [2, 3, 0], [1, 5, 6]])
    return Batch((torch.rand(4, 3, 16, 16) * 2 - 1,), ids, (ids > 0).long(), torch.tensor([0, 1, 0, 1]), ("",) * 4, 2)


@pytest.mark.parametrize("magp_step", ["joint", "separate"])
def test_both_players_move_and_the_encoders_do_not(encoders, batch, magp_step):
    phase = make_phase(encoders, magp_step=magp_step)
    before = copy.deepcopy([m.state_dict() for m in (phase.generator, phase.discriminator, encoders)])
    assert phase.train_step(batch).terms.keys() == WEIGHTS.keys()
    for module, old, moves in zip((phase.generator, phase.discriminator, encoders), before, (True, True, False)):
        changed = [key for key, value in module.state_dict().items() if not torch.equal(value, old[key])]
        assert bool(changed) == moves
    assert not encoders.training and not any(p.requires_grad for p in encoders.parameters())
    assert all(p.grad is None for p in encoders.parameters())


def test_the_generators_step_leaves_no_gradient_in_the_discriminator(encoders, batch):
    phase = make_phase(encoders)
    text = phase.text_encoder(batch.input_ids, batch.attention_mask)
    phase.d_optimizer.zero_grad()
    phase.generator_step([MicroBatch(batch, text, text, torch.randn(4, 6), None)])
    assert all(p.grad is None for p in phase.discriminator.parameters())
    assert all(p.requires_grad for n, p in phase.discriminator.named_parameters() if "shortcut" not in n)


def test_joint_and_separate_penalties_agree_before_any_update(encoders, batch):
    """With learning rates of zero the separate penalty is taken of the same discriminator as the
    joint one."""
    terms = []
    for magp_step in ("joint", "separate"):
        torch.manual_seed(1)
        phase = make_phase(encoders, magp_step=magp_step, discriminator_learning_rate=0.0)
        torch.manual_seed(2)
        terms.append(phase.train_step(batch).terms["d_magp"])
    assert_close(*terms)


def first_terms_by_precision(make, batch):
    """Terms of the first step in float32 and in bf16, of the phase that `make` gives."""
    found = []
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.manual_seed(1)
        phase = make(accelerator=Accelerator(mixed_precision=precision))
        torch.manual_seed(2)
        found.append(phase.train_step(batch).terms)
    AcceleratorState._reset_state(reset_partial_state=True)
    return found


def test_the_penalty_is_taken_in_float32_whatever_the_precision(encoders, batch):
    full, half = first_terms_by_precision(partial(make_phase, encoders), batch)
    assert_close(full["d_magp"], half["d_magp"])
    assert not torch.equal(full["g_adv"], half["g_adv"])  # the rest is computed in bf16


def test_a_checkpoint_with_trained_heads_is_refused_without_their_term(encoders):
    state = make_phase(encoders, supcon_projection=4).state_dict()
    bare = make_phase(encoders, loss_weights={name: w for name, w in WEIGHTS.items() if name != "supcon"})
    before = copy.deepcopy(bare.generator.state_dict())
    with pytest.raises(ValueError, match="does not fit the recipe: it trained heads of guidance terms"):
        bare.load_state_dict(state)
    assert all(torch.equal(value, before[name]) for name, value in bare.generator.state_dict().items())


def test_each_row_takes_the_draw_whose_picture_is_nearest(encoders, batch):
    weights = WEIGHTS | {"pixels": 1}
    phase = make_phase(encoders, loss_weights=weights, pixel_draws=4)
    before = copy.deepcopy(phase.generator.state_dict())
    torch.manual_seed(3)
    found = phase._embed_captions(batch).noise
    torch.manual_seed(3)
    draws = [torch.randn(4, 6) for _ in range(4)]
    text = phase.text_encoder(batch.input_ids, batch.attention_mask)
    for row in range(4):
        distances = []
        for noise in draws:
            picture = phase.generator(noise, text.sent_emb, text.word_embs, text.attention_mask).images[-1][row]
            distances.append((picture - batch.images[-1][row]).abs().mean().item())
        assert torch.equal(found[row], draws[distances.index(min(distances))][row])
    phase.generator.load_state_dict(before)
    phase._embed_captions(batch)
    assert all(torch.equal(value, before[name]) for name, value in phase.generator.state_dict().items())
    assert phase.train_step(batch).terms.keys() == weights.keys()
    with pytest.raises(ValueError, match="pixel_draws is 4, and loss_weights names no 'pixels'"):
        make_phase(encoders, pixel_draws=4)


def test_the_lowest_scale_chooses_the_draw(encoders, batch):
    weights = {"d_adv": 1, "g_adv": 1, "pixels": 1}
    phase = make_phase(encoders, model="attngan", loss_weights=weights, magp_step="separate", pixel_draws=6)
    batch = dataclasses.replace(batch, images=tuple(torch.rand(4, 3, s, s) * 2 - 1 for s in phase.image_sizes))
    torch.manual_seed(3)
    found = phase._embed_captions(batch)
    torch.manual_seed(3)
    config = phase.config
    draws = [(torch.randn(4, config.noise_dim), torch.randn(4, config.conditioning_dim)) for _ in range(6)]
    text = phase.text_encoder(batch.input_ids, batch.attention_mask)
    nearest = []  # at each scale
    for scale, real in enumerate(batch.images):
        distances = []
        for noise, conditioning_noise in draws:
            output = phase.generator(noise, text.sent_emb, text.word_embs, text.attention_mask, conditioning_noise)
            distances.append((output.images[scale] - real).abs().mean(dim=(1, 2, 3)))
        nearest.append(torch.stack(distances).argmin(dim=0).tolist())
    assert nearest[0] != nearest[-1]  # so that it shows which one decides
    for row, draw in enumerate(nearest[0]):
        assert torch.equal(found.noise[row], draws[draw][0][row])
        assert torch.equal(found.conditioning_noise[row], draws[draw][1][row])


@pytest.mark.parametrize("model", ["ssagan", "attngan"])
def test_both_players_meet_what_lies_between_two_sentences(encoders, batch, model):
    """The terms of each, beside those of its loss on pictures drawn by hand."""
    weights = {"d_adv": 1, "g_adv": 1, "pixels": 1, "sent": 1}
    rates = {"discriminator_learning_rate": 0.0, "generator_learning_rate": 0.0}
    phase = make_phase(encoders, model=model, loss_weights=weights, magp_step="separate", mixed_sentences=0.5, **rates)
    batch = dataclasses.replace(batch, images=tuple(torch.rand(4, 3, s, s) * 2 - 1 for s in phase.image_sizes))
    torch.manual_seed(3)
    found = phase.train_step(batch).terms
    torch.manual_seed(3)
    (noise, conditioning), (more, more_conditioning) = (
        phase._noises(torch.empty(4, 1)),
        phase._noises(torch.empty(2, 1)),
    )
    with torch.no_grad():
        text = phase.text_encoder(batch.input_ids, batch.attention_mask)
        length = text.word_embs.shape[1]
        words, mask = torch.zeros(6, 2 * length, text.word_embs.shape[2]), torch.zeros(6, 2 * length, dtype=torch.long)
        words[:4, :length], mask[:4, :length] = text.word_embs, text.attention_mask
        for row in range(2):
            words[4 + row] = torch.cat([text.word_embs[row], text.word_embs[row + 1]])
            mask[4 + row] = torch.cat([text.attention_mask[row], text.attention_mask[row + 1]])
        between = [(text.sent_emb[row] + text.sent_emb[row + 1]) / 2 for row in range(2)]
        sent = torch.cat([text.sent_emb, torch.stack(between)])
        if conditioning is not None:
            conditioning = torch.cat([conditioning, more_conditioning])
        images = phase.generator(torch.cat([noise, more]), sent, words, mask, conditioning).images
        scales = [(one[:4] - real).abs().mean() for one, real in zip(images, batch.images, strict=True)]
        assert_close(found["pixels"], sum(scales) / len(scales), rtol=1e-4, atol=1e-5)
        fake = phase._score(images, sent)
        assert len(fake.cond[0]) == 6
        assert_close(found["g_adv"], phase._generator_loss(fake), rtol=1e-4, atol=1e-5)
        embeddings = phase.image_encoder(images[-1][:4])
        expected = phase.guidance(embeddings, text, batch.labels, batch.num_views).terms["sent"]
        assert_close(found["sent"], expected, rtol=1e-4, atol=1e-5)
        real = phase._score(batch.images, text.sent_emb, next_captions(text.sent_emb, batch.num_views, False))
        assert_close(found["d_adv"], phase._discriminator_loss(real, fake), rtol=1e-4, atol=1e-5)


def test_a_share_that_makes_no_row_mixes_nothing(encoders, batch):
    found = []
    for share in (0.0, 0.1):  # of 4 rows
        torch.manual_seed(3)
        phase = make_phase(encoders, mixed_sentences=share)
        torch.manual_seed(4)
        found.append(phase.train_step(batch).terms)
    assert found[0] == found[1]


@pytest.mark.parametrize("augmentation", [[], ["color"]])
def test_galip_is_guided_by_the_pictures_of_the_rows_alone(clip_folder, batch, tiny_data, augmentation):
    rows = load_rows(str(tiny_data), "train")
    recipe = galip_recipe(clip_folder, magp_step="joint", augmentation=augmentation, mixed_sentences=1.0)
    phase = GANPhase.from_recipe(recipe, Accelerator(), rows, rows)
    seen = []
    phase.image_encoder.register_forward_hook(lambda module, inputs, _: seen.append(len(inputs[0])))
    assert phase.train_step(batch).terms.keys() == recipe.loss_weights.keys()
    assert sorted(seen) == [4, 4, 8]  # real pictures, those that guidance looks at, and all that were drawn


def test_fp16_is_refused_for_the_penalty_alone(encoders):
    fp16 = SimpleNamespace(mixed_precision="fp16")  # a real one needs a GPU
    with pytest.raises(
        ValueError,
        match="fp16 cannot hold the sixth power in the gradient penalty d_magp: train with "
        "--mixed-precision bf16 or no",
    ):
        make_phase(encoders, accelerator=fp16)


def test_the_discriminator_reads_images_in_its_own_layout(encoders, batch):
    phase, calls = make_phase(encoders), []
    phase.discriminator.from_rgb.register_forward_hook(lambda module, inputs, output: calls.append((inputs[0], output)))
    phase.train_step(
        dataclasses.replace(batch, images=tuple(x.contiguous(memory_format=torch.channels_last) for x in batch.images))
    )
    # real, generated, and these for the generator
    assert len(calls) == 3 and all(x.is_contiguous() and y.is_contiguous() for x, y in calls)


def test_the_lazy_penalty_is_weighted_up(encoders, batch):
    torch.manual_seed(1)
    every = make_phase(encoders, discriminator_learning_rate=0.0)
    torch.manual_seed(1)
    lazy = make_phase(encoders, discriminator_learning_rate=0.0, magp_every=3)
    first, lazy_first = (phase.train_step(batch).terms["d_magp"] for phase in (every, lazy))
    assert_close(3 * first, lazy_first)
    assert ["d_magp" in lazy.train_step(batch).terms for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(("step", "weight"), [(0, 0), (1, 0.025), (3, 0.075), (4, 0.1), (9, 0.1)])
def test_the_contrast_warms_up(encoders, batch, step, weight):
    """The generator's gradient is that of a recipe with the weight that is due."""
    gradients = []
    for warmup, supcon in ((4, 0.1), (0, weight)):
        torch.manual_seed(1)
        phase = make_phase(encoders, supcon_warmup=warmup, loss_weights=WEIGHTS | {"d_magp": 0, "supcon": supcon})
        phase.step = step
        phase.train_step(batch)
        gradients.append([p.grad for p in phase.generator.parameters() if p.grad is not None])
    assert gradients[0] and all(grad.any() for grad in gradients[0][-2:])
    assert_close(*gradients)


def test_ema_follows_and_is_what_is_drawn(encoders, batch, tokenizer):
    phase = make_phase(encoders, ema_decay=0.5)
    phase.tokenizer = tokenizer
    start = {name: p.clone() for name, p in phase.generator.named_parameters()}
    phase.train_step(batch)
    for name, p in phase.ema.module.named_parameters():
        assert_close(p, (start[name] + dict(phase.generator.named_parameters())[name]) / 2)
    for mine, theirs in zip(phase.ema.module.buffers(), phase.generator.buffers()):
        assert torch.equal(mine, theirs)
    noise = torch.randn(1, 6)
    text = phase.text_encoder(**tokenizer(["a red star"], return_tensors="pt", return_token_type_ids=False))
    assert_close(phase.draw(["a red star"], noise), phase.ema.module(noise, text.sent_emb).images[-1])
    assert phase.generator.training


def test_absent_weights_leave_their_networks_alone(encoders, batch):
    phase = make_phase(encoders, loss_weights={"d_adv": 1, "g_adv": 1})

    def never(*_):
        raise AssertionError("the image encoder ran although no weight asks for it")

    phase.image_encoder.register_forward_hook(never)
    assert phase.train_step(batch).terms.keys() == {"d_adv", "g_adv"}


def test_missing_encoders_say_what_to_do(tmp_path):
    recipe = parse_recipe(
        {"phase": "gan", "model": "ssagan", "encoders": str(tmp_path / "none"), "loss_weights": WEIGHTS}
    )
    with pytest.raises(ValueError, match="train phase 1 first"):
        GANPhase.from_recipe(recipe, Accelerator(), None, None)
    recipe = parse_recipe({"phase": "gan", "model": "biggan", "encoders": "x", "loss_weights": WEIGHTS})
    with pytest.raises(ValueError, match="model is 'biggan'; it must be one of " + ", ".join(GANS)):
        GANPhase.from_recipe(recipe, Accelerator(), None, None)


def galip_recipe(folder, **changes):
    architecture = {key: value for key, value in TINY["galip"].items() if key != "image_config"}
    weights = {"d_adv": 1, "d_magp": 1, "g_adv": 1, "clip_sim": 4, "supcon": 0.1}
    values = {
        "phase": "gan",
        "model": "galip",
        "model_config": architecture,
        "encoders": str(folder),
        "batch_size": 4,
        "loss_weights": weights,
    }
    return parse_recipe(values | changes)


@pytest.fixture
def clip_folder(tokenizer, tmp_path):
    pair = CLIPPairModel(
        CLIPPairConfig(
            text_config=tiny_text("galip", len(tokenizer)), image_config={**TINY_CLIP_IMAGE, "rescale_twice": True}
        )
    )
    pair.save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.mark.parametrize("augmentation", [[], ["color"]])
def test_galip_is_built_around_clip_trained_and_saved_whole(clip_folder, batch, tiny_data, tmp_path, augmentation):
    rows = load_rows(str(tiny_data), "train")
    recipe = galip_recipe(clip_folder, magp_step="joint", ema_decay=0.5, augmentation=augmentation)
    phase = GANPhase.from_recipe(recipe, Accelerator(), rows, rows)
    before = copy.deepcopy([m.state_dict() for m in (phase.generator, phase.discriminator)])
    passes = []
    phase.image_encoder.register_forward_hook(lambda *_: passes.append(1))
    assert phase.train_step(batch).terms.keys() == recipe.loss_weights.keys()
    # real images, fakes, and fakes once more where the discriminator saw them augmented
    assert len(passes) == (3 if augmentation else 2)
    for module, old in zip((phase.generator, phase.discriminator), before):
        assert any(not torch.equal(value, old[key]) for key, value in module.state_dict().items())
    source = CLIPPairModel.from_pretrained(clip_folder).image_encoder.vision.state_dict()
    phase.save_pretrained(tmp_path / "model")
    saved, info = GALIPForTextToImage.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info.values()), info
    assert saved.config.image_config.rescale_twice
    assert all(torch.equal(value, source[key]) for key, value in saved.generator.vision.state_dict().items())
    assert all(
        torch.equal(value, phase.ema.module.state_dict()[key]) for key, value in saved.generator.state_dict().items()
    )


def test_encoders_of_another_kind_are_refused(encoders, tokenizer, tmp_path):
    encoders.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="galip needs a CLIPTextEncoder, found a DAMSMTextEncoder"):
        GANPhase.from_recipe(galip_recipe(tmp_path), Accelerator(), None, None)
    with pytest.raises(ValueError, match="model_config.image_config comes from the encoders"):
        GANPhase.from_recipe(
            galip_recipe(tmp_path, model_config={"image_config": TINY_CLIP_IMAGE}), Accelerator(), None, None
        )


def test_words_need_an_encoder_of_regions(clip_folder, tiny_data):
    rows = load_rows(str(tiny_data), "train")
    recipe = galip_recipe(clip_folder, loss_weights={"d_adv": 1, "words": 1})
    with pytest.raises(ValueError, match="embeds no regions"):
        GANPhase.from_recipe(recipe, Accelerator(), rows, rows)


STACKED = {"d_adv": 1, "g_adv": 1, "g_kl": 1, "words": 0.1, "sent": 0.1, "supcon": 0.1}


def make_stacked_phase(encoders, model, accelerator=None, **changes):
    config = tiny_config(model, encoders.config.text_config.vocab_size)
    values = {
        "phase": "gan",
        "model": model,
        "encoders": "given",
        "batch_size": 4,
        "loss_weights": STACKED,
        "augmentation": ["translation"],
    }
    gan = GANS[model]
    networks = gan.generator(config), gan.discriminator(config), encoders.text_encoder, encoders.image_encoder
    return GANPhase(parse_recipe(values | changes), accelerator or Accelerator(), *networks)


@pytest.fixture
def stacked_batch(batch):
    return dataclasses.replace(batch, images=tuple(torch.rand(4, 3, size, size) * 2 - 1 for size in (8, 16, 32)))


@pytest.mark.parametrize("model", ["attngan", "dmgan"])
def test_every_network_of_a_stacked_gan_moves(encoders, stacked_batch, model):
    phase = make_stacked_phase(encoders, model)
    parameters = [
        (name, p, p.detach().clone())
        for m in (phase.generator, phase.discriminator)
        for name, p in m.named_parameters()
    ]
    assert phase.train_step(stacked_batch).terms.keys() == STACKED.keys()
    still = [name for name, p, before in parameters if torch.equal(p, before)]
    assert not still


R1 = {"d_adv": 1, "g_adv": 1, "d_r1": 1}
STILL = {"discriminator_learning_rate": 0.0, "generator_learning_rate": 0.0, "augmentation": []}


def test_r1_reads_all_logits_of_all_scales(encoders, stacked_batch):
    phase = make_stacked_phase(encoders, "attngan", loss_weights=R1, **STILL)
    sent = phase.text_encoder(stacked_batch.input_ids, stacked_batch.attention_mask).sent_emb
    images = [image.clone().requires_grad_() for image in stacked_batch.images]
    squares = torch.zeros(4)
    for network, image in zip(phase.discriminator.scales, images, strict=True):
        scores = network(image, sent)
        (gradient,) = torch.autograd.grad((scores.cond[0] + scores.uncond[0]).sum(), image)
        squares += gradient.square().sum(dim=(1, 2, 3))
    assert_close(phase.train_step(stacked_batch).terms["d_r1"], squares.mean() / 2)


def test_r1_of_a_discriminator_of_features(clip_folder, batch, tiny_data):
    rows = load_rows(str(tiny_data), "train")
    recipe = galip_recipe(clip_folder, loss_weights=R1, **STILL)
    phase = GANPhase.from_recipe(recipe, Accelerator(), rows, rows)
    features = phase.image_encoder(batch.images[-1]).local_feats.detach().requires_grad_()
    sent = phase.text_encoder(batch.input_ids, batch.attention_mask).sent_emb
    (gradient,) = torch.autograd.grad(phase.discriminator(features, sent).cond[0].sum(), features)
    assert_close(phase.train_step(batch).terms["d_r1"], gradient.flatten(1).square().sum(dim=1).mean() / 2)


def test_r1_is_taken_in_float32_whatever_the_precision(encoders, stacked_batch):
    make = partial(make_stacked_phase, encoders, "attngan", loss_weights=R1)
    full, half = first_terms_by_precision(make, stacked_batch)
    assert_close(full["d_r1"], half["d_r1"])
    assert not torch.equal(full["d_adv"], half["d_adv"])  # the rest is computed in bf16


def test_r1_flattens_the_discriminator(encoders, stacked_batch):
    found = []
    for weight in (0, 10):
        torch.manual_seed(1)
        phase = make_stacked_phase(encoders, "dmgan", loss_weights=R1 | {"d_r1": weight}, augmentation=[])
        found.append([float(phase.train_step(stacked_batch).terms["d_r1"]) for _ in range(30)])
    without, penalised = found
    assert without[0] == penalised[0]
    assert penalised[-1] < 0.5 * penalised[0] and penalised[-1] < 0.5 * without[-1]


def test_the_lazy_r1_is_weighted_up(encoders, stacked_batch):
    every, lazy = (make_stacked_phase(encoders, "attngan", loss_weights=R1, r1_every=n, **STILL) for n in (1, 3))
    lazy.discriminator.load_state_dict(every.discriminator.state_dict())
    first, lazy_first = (phase.train_step(stacked_batch).terms["d_r1"] for phase in (every, lazy))
    assert_close(3 * first, lazy_first)
    assert ["d_r1" in lazy.train_step(stacked_batch).terms for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("model", ["attngan", "dmgan"])
def test_the_noise_given_decides_all_of_a_drawn_picture(encoders, tokenizer, model):
    phase = make_stacked_phase(encoders, model)
    phase.tokenizer = tokenizer
    noise, conditioning_noise = torch.randn(1, 6), torch.randn(1, 5)
    first, again = (phase.draw(["a red star"], noise, conditioning_noise) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, phase.draw(["a red star"], noise, conditioning_noise + 1))


def test_terms_a_gan_does_not_have_are_refused(encoders):
    with pytest.raises(ValueError, match="'d_magp', but attngan draws 3 scales"):
        make_stacked_phase(encoders, "attngan", loss_weights=WEIGHTS)
    with pytest.raises(ValueError, match="'g_kl', but ssagan has no conditioning augmentation"):
        make_phase(encoders, loss_weights=WEIGHTS | {"g_kl": 1})


def test_pixels_are_compared_at_every_scale(encoders, stacked_batch):
    phase = make_stacked_phase(encoders, "attngan", loss_weights={"d_adv": 1, "g_adv": 1, "pixels": 5}, augmentation=[])
    torch.manual_seed(2)
    generated = phase._generate(phase._embed_captions(stacked_batch)).output.images
    expected = sum((a - b).abs().mean() for a, b in zip(generated, stacked_batch.images)) / 3
    torch.manual_seed(2)
    assert_close(phase.train_step(stacked_batch).terms["pixels"], expected.detach())


def test_a_conditioning_without_noise_is_the_mean(encoders):
    config = tiny_config("attngan", encoders.config.text_config.vocab_size)
    config.conditioning_std = 0.0
    conditioning = GANS["attngan"].generator(config).conditioning
    condition, mean, _ = conditioning(torch.randn(3, 8), torch.randn(3, 5))
    assert torch.equal(condition, mean)


def test_the_gain_scales_what_the_text_encoder_says(encoders):
    ids = torch.tensor([[1, 2, 3]])
    plain = encoders.text_encoder(ids, torch.ones_like(ids))
    encoders.text_encoder.config.gain = 4.0
    louder = encoders.text_encoder(ids, torch.ones_like(ids))
    assert_close(louder.sent_emb, 4 * plain.sent_emb)
    assert_close(louder.word_embs, 4 * plain.word_embs)


def test_a_text_gain_is_applied_and_saved_with_the_model(encoders, tokenizer, tiny_data, clip_folder, tmp_path):
    encoders.save_pretrained(tmp_path / "encoders")
    tokenizer.save_pretrained(tmp_path / "encoders")
    rows = load_rows(str(tiny_data), "train")
    values = {"phase": "gan", "model": "ssagan", "encoders": str(tmp_path / "encoders"), "model_config": TINY["ssagan"]}
    recipe = parse_recipe({**values, "loss_weights": WEIGHTS, "text_gain": 4, "data": {"name": str(tiny_data)}})
    phase = GANPhase.from_recipe(recipe, Accelerator(), rows, rows)
    ids = torch.tensor([[1, 2, 3]])
    plain = encoders.text_encoder(ids, torch.ones_like(ids)).sent_emb
    assert_close(phase.text_encoder(ids, torch.ones_like(ids)).sent_emb, 4 * plain)
    phase.save_pretrained(tmp_path / "model")
    saved = GANS["ssagan"].composite.from_pretrained(tmp_path / "model")
    assert_close(saved.text_encoder(ids, torch.ones_like(ids)).sent_emb, 4 * plain)
    with pytest.raises(ValueError, match="text_gain is 2.0, and a CLIPTextEncoder has no gain"):
        GANPhase.from_recipe(galip_recipe(clip_folder, text_gain=2), Accelerator(), rows, rows)


@pytest.mark.parametrize(
    ("decay", "steps", "said"),
    [(0.998, 1000, "13.5 %"), (0.98, 1000, None), (0.998, 6000, None), (0.998, 7, None), (None, 1000, None)],
)
def test_an_average_that_will_hold_much_of_the_untrained_generator_is_told(encoders, caplog, decay, steps, said):
    make_phase(encoders, ema_decay=decay, steps=steps)
    if said is None:
        assert not caplog.records
    else:
        assert said in caplog.text and "after 1,000 steps" in caplog.text and "ema_decay=0.98 " in caplog.text


def test_gradients_by_pictures_are_those_of_closed_forms_and_finite_differences(encoders):
    weights = {"d_adv": 1, "g_adv": 0.5, "pixels": 3, "sent": 2, "supcon": 4}
    torch.manual_seed(0)
    encoders = copy.deepcopy(encoders).train()
    with torch.no_grad():
        for _ in range(20):  # BatchNorm gets to know pictures: else all would be embedded alike
            encoders.image_encoder(torch.rand(8, 3, 16, 16) * 2 - 1)
    phase = make_phase(encoders, loss_weights=weights)
    for network in (phase.generator, phase.discriminator, encoders):
        network.double()
    ids = torch.tensor([[1, 2, 3], [4, 5, 0], [2, 3, 0], [1, 5, 6]])
    real = torch.rand(4, 3, 16, 16, dtype=torch.float64) * 2 - 1
    batch = Batch((real,), ids, (ids > 0).long(), torch.tensor([0, 1, 0, 1]), ("",) * 4, 2)
    torch.set_default_dtype(torch.float64)  # of the noise
    try:
        torch.manual_seed(1)
        pulls = phase.term_pulls(batch)
        torch.manual_seed(1)
        micro = phase._embed_captions(batch)
        drawn = phase._generate(micro).output.images[-1].detach()
        found = {name: pull.gradient for name, pull in pulls.items()}
        assert list(found) == ["g_adv", "pixels", "sent", "supcon"]
        assert_close(found["pixels"], 3 * (drawn - real).sign() / real.numel())

        def guidance(images):
            return phase.guidance(phase.image_encoder(images), micro.text, batch.labels, 2).terms

        for name in ("sent", "supcon"):
            assert pulls[name].drawn == pytest.approx(guidance(drawn)[name].item())
            assert pulls[name].real == pytest.approx(guidance(real)[name].item())
        assert pulls["pixels"].real is None and pulls["g_adv"].real is None
        assert pulls["pixels"].drawn == pytest.approx((drawn - real).abs().mean().item())
        for name, length in (("sent", 1e-4), ("supcon", 1e-2)):  # along the gradient, where a term rises by its norm
            norm = found[name].norm()
            way = length * found[name] / norm
            ahead, behind = (weights[name] * guidance(drawn + sign * way)[name] for sign in (1, -1))
            assert_close((ahead - behind) / (2 * length), norm, rtol=2e-2, atol=0, check_dtype=False)
    finally:
        torch.set_default_dtype(torch.float32)
