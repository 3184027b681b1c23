"""Phase 1's promises beyond whole runs: which towers it trains and how, and what it starts from."""

import copy
import math

import datasets
import pytest
import torch
from accelerate import Accelerator
from conftest import (
    CAPTIONS,
    TINY_CLIP_IMAGE,
    TINY_CLIP_TEXT,
    TINY_IMAGE,
    TINY_TEXT,
    TINY_TRANSFORMER,
    foreign_clip,
)
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.conversion import load_encoders
from t2i_supcon.data import Batch, load_rows
from t2i_supcon.data.word_vectors import WordVectors, write_word_vectors
from t2i_supcon.models import CLIPPairConfig, CLIPPairModel
from t2i_supcon.training import EncoderPhase, train
from t2i_supcon.training.encoder_phase import new_encoders
from t2i_supcon.training.recipe import parse_recipe

CLIP_SIZES = {
    "text_config": {key: value for key, value in TINY_CLIP_TEXT.items() if key in TINY_TRANSFORMER},
    "image_config": TINY_CLIP_IMAGE,
}


def recipe_of(model, **changes):
    weights = {"clip": 1, "supcon": 1} if model == "clip" else {"words": 1, "sent": 1}
    values = {"phase": "encoders", "model": model, "batch_size": 4, "loss_weights": weights, "image_size": 16}
    return parse_recipe(values | changes)


def tiny_clip() -> CLIPPairModel:
    return CLIPPairModel(CLIPPairConfig(text_config={**TINY_CLIP_TEXT, "vocab_size": 20}, image_config=TINY_CLIP_IMAGE))


@pytest.fixture
def batch():
    ids = torch.tensor([[1, 2, 3], [4, 5, 0], [2, 3, 0], [1, 5, 6]])
    return Batch((torch.rand(4, 3, 16, 16) * 2 - 1,), ids, (ids > 0).long(), torch.tensor([0, 1, 0, 1]), ("",) * 4, 2)


def test_clip_term_is_the_mean_of_both_views_losses(batch):
    """Against cross-entropies written out for each view; both rows of a view have other labels, so
    none is masked."""
    phase = EncoderPhase(recipe_of("clip"), Accelerator(), tiny_clip())
    text, images = phase.model(batch.input_ids, batch.attention_mask, batch.images[-1])
    expected = []
    for rows in (slice(0, 2), slice(2, 4)):
        cosine = F.normalize(images.image_emb[rows], dim=1) @ F.normalize(text.sent_emb[rows], dim=1).T
        logits = cosine * math.exp(2.6592)
        expected.append((F.cross_entropy(logits, torch.arange(2)) + F.cross_entropy(logits.T, torch.arange(2))) / 2)
    assert_close(phase.train_step(batch).terms["clip"], torch.stack(expected).mean().detach())


def test_clip_trains_both_towers_and_the_scale_stays_bounded(batch):
    phase = EncoderPhase(recipe_of("clip", learning_rate=5.0), Accelerator(), tiny_clip())
    before = copy.deepcopy(phase.towers.state_dict())
    for _ in range(3):
        phase.train_step(batch)
    moved = {
        key.split(".")[0] for key, value in phase.towers.state_dict().items() if not torch.equal(value, before[key])
    }
    assert moved == {"text_encoder", "image_encoder", "logit_scale"}
    assert phase.towers.logit_scale <= math.log(100) + 1e-6


@pytest.mark.parametrize("model", ["clip", "damsm"])
def test_a_frozen_trunk_does_not_move(model, batch, encoders):
    phase = EncoderPhase(
        recipe_of(model, train_trunk=False), Accelerator(), tiny_clip() if model == "clip" else encoders
    )
    before = {name: p.detach().clone() for name, p in phase.towers.named_parameters()}
    trunk = {id(p) for p in phase.towers.image_encoder.trunk.parameters()}
    phase.train_step(batch)
    moved = {name: not torch.equal(p, before[name]) for name, p in phase.towers.named_parameters()}
    for name, p in phase.towers.image_encoder.named_parameters():
        assert moved[f"image_encoder.{name}"] == (id(p) not in trunk), name
        assert (p.grad is None) == (id(p) in trunk)
    assert any(moved[name] for name in moved if name.startswith("text_encoder."))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_trunks_batch_norm_follows_the_recipe(mode, batch, encoders):
    phase = EncoderPhase(recipe_of("damsm", train_trunk=False, trunk_batch_norm=mode), Accelerator(), encoders)
    before = copy.deepcopy(dict(encoders.image_encoder.trunk.named_buffers()))
    phase.train_step(batch)
    drifted = any(not torch.equal(value, before[name]) for name, value in encoders.image_encoder.trunk.named_buffers())
    assert drifted == (mode == "train")
    assert encoders.text_encoder.training


def test_forgetful_adam_and_exponential_rates(batch, encoders):
    """Two steps an epoch: the rate is 0.98 as large after each, and a moment counts the steps since
    the last one."""
    phase = EncoderPhase(
        recipe_of("damsm", lr_schedule="exponential", lr_decay_every=2, reset_adam_every=2, learning_rate=1e-3),
        Accelerator(),
        encoders,
    )
    rates, counts = [], []
    for _ in range(5):
        phase.train_step(batch)
        rates.append(phase.optimizer.param_groups[0]["lr"])
        counts.append({int(state["step"]) for state in phase.optimizer.state.values()})
    assert rates == pytest.approx([1e-3, 1e-3, 0.98e-3, 0.98e-3, 0.98**2 * 1e-3])
    assert counts == [{1}, set(), {1}, set(), {1}]
    phase.step = 405
    phase.train_step(batch)
    assert phase.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.98**114)  # the first power below a tenth


def test_the_contrast_warms_up(batch):
    """In the first step of a warm-up the encoders move as without the term."""
    towers, moved = tiny_clip(), []
    for changes in ({"supcon_warmup": 2}, {"loss_weights": {"clip": 1}}, {}):
        phase = EncoderPhase(recipe_of("clip", **changes), Accelerator(), copy.deepcopy(towers))
        phase.train_step(batch)
        moved.append(list(phase.towers.parameters()))
    assert_close(*moved[:2])
    assert any(not torch.equal(a, b) for a, b in zip(moved[0], moved[2]))


@pytest.mark.parametrize("source", ["own", "transformers"])
def test_pretrained_encoders_are_fine_tuned(source, tokenizer, tiny_data, tmp_path):
    model = foreign_clip() if source == "transformers" else tiny_clip()
    model.save_pretrained(tmp_path / "given")
    tokenizer.save_pretrained(tmp_path / "given")
    every = {"data": {"name": str(tiny_data), "max_words": 5}, "steps": 1, "eval_rows": 100}
    train(recipe_of("clip", init_from=str(tmp_path / "given"), **every), tmp_path / "tuned")
    tuned, _ = load_encoders(str(tmp_path / "tuned" / "model"), max_words=5)
    start = load_encoders(str(tmp_path / "given"), max_words=5)[0].state_dict()
    assert any(not torch.equal(value, start[key]) for key, value in tuned.state_dict().items())
    with pytest.raises(ValueError, match="model 'damsm' is a DAMSMModel, found a CLIPPairModel"):
        train(recipe_of("damsm", init_from=str(tmp_path / "given"), **every), tmp_path / "other")


def test_new_clip_reads_no_more_words_than_the_recipe_says(tiny_data):
    rows = load_rows(str(tiny_data), "train")
    model, tokenizer = new_encoders(recipe_of("clip", model_config=CLIP_SIZES, data={"max_words": 3}), rows)
    assert model.config.text_config.max_position_embeddings == 3
    encoded = tokenizer(CAPTIONS[2], truncation=True, return_tensors="pt")
    assert encoded["input_ids"].shape == (1, 3)
    model.text_encoder(encoded["input_ids"], encoded["attention_mask"])


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (
            "damsm",
            {"loss_weights": {"clip": 1}},
            "'clip' is the matching loss of model 'clip', and this model is 'damsm'",
        ),
        ("clip", {"loss_weights": {"supcon": 1}}, "do not fit"),
        ("clip", {"init_from": "x", "model_config": CLIP_SIZES}, "exclude each other"),
        ("clip", {"inception_weights": "x"}, "trunk of new DAMSM encoders"),
        ("damsm", {"word_vectors": "emoji", "init_from": "x"}, "word_vectors are for new encoders"),
        ("damsm", {"reset_adam_every": 0}, "reset_adam_every is 0"),
    ],
)
def test_fields_that_do_not_fit_are_refused(model, changes, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(model, **changes)


def test_sizes_that_the_captions_decide_are_refused(tiny_data):
    rows = load_rows(str(tiny_data), "train")
    for model, key in (("damsm", "vocab_size"), ("clip", "max_position_embeddings")):
        with pytest.raises(ValueError, match=f"text_config.{key} is set by the captions"):
            new_encoders(recipe_of(model, model_config={"text_config": {key: 9}}), rows)


@pytest.mark.parametrize("model", ["clip", "damsm"])
def test_given_word_vectors_stay_and_other_words_learn(model, tmp_path, batch):
    rows = datasets.Dataset.from_dict({"captions": [["a red car"], ["a blue boat"]]})
    sizes = CLIP_SIZES if model == "clip" else {"text_config": TINY_TEXT, "image_config": TINY_IMAGE}
    width = sizes["text_config"]["hidden_size" if model == "clip" else "embedding_dim"]
    given = WordVectors(("ship", "red", "blue"), torch.randn(3, width))
    write_word_vectors(tmp_path / "vectors.safetensors", given, "")
    recipe = recipe_of(model, model_config=sizes, word_vectors=str(tmp_path / "vectors.safetensors"))
    towers, tokenizer = new_encoders(recipe, rows)
    assert tokenizer.convert_tokens_to_ids(["▁a", "▁blue", "▁boat", "▁car", "▁red", "▁ship"]) == [1, 2, 3, 4, 5, 6]
    before = towers.get_input_embeddings().weight.detach().clone()
    assert_close(before[[6, 5, 2]], given.vectors, rtol=1e-3, atol=1e-3)
    phase = EncoderPhase(recipe, Accelerator(), towers)
    for _ in range(2):
        phase.train_step(batch)
    after = phase.towers.get_input_embeddings().weight
    assert torch.equal(after[[6, 5, 2]], before[[6, 5, 2]])
    assert not any(torch.equal(after[i], before[i]) for i in (1, 3, 4))


def test_word_vectors_of_another_width_are_refused(tmp_path):
    rows = datasets.Dataset.from_dict({"captions": [["a red car"]]})
    write_word_vectors(tmp_path / "vectors.safetensors", WordVectors(("red",), torch.ones(1, 6)), "")
    sizes = {"text_config": TINY_TEXT, "image_config": TINY_IMAGE}
    recipe = recipe_of("damsm", model_config=sizes, word_vectors=str(tmp_path / "vectors.safetensors"))
    with pytest.raises(ValueError, match="word_vectors are 6 wide, and the text encoder's words 7"):
        new_encoders(recipe, rows)
