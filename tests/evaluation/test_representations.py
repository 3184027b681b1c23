"""Numbers of a shared space against loops over its rows, and what is written about it."""

import json
import sys

import numpy as np
import pytest
import torch
from conftest import TINY, tiny_text
from PIL import Image
from torch.nn import functional as F
from transformers import AutoTokenizer

from t2i_supcon.data import build_tokenizer, encode_prompts, evenly_spaced, load_rows, save_tokenizer
from t2i_supcon.evaluation.representations import MEASURED, Representations, represent, show_representations
from t2i_supcon.models import (
    DAMSMConfig,
    DAMSMModel,
    SSAGANConfig,
    SSAGANForTextToImage,
    sample_noise,
    seeded_generator,
)

ROWS = 24


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Two pairs of untrained encoders that know the words of the emoji data."""
    tokenizer = build_tokenizer((c for captions in load_rows("emoji", "train")["captions"][:300] for c in captions), 12)
    folders = []
    for seed, name in enumerate(("plain", "scl")):
        folders.append(tmp_path_factory.mktemp("runs") / name / "model")
        torch.manual_seed(seed)
        config = DAMSMConfig(
            text_config={"vocab_size": len(tokenizer), "embedding_dim": 8, "hidden_size": 8},
            image_config={"hidden_size": 8, "image_size": 80, "channel_divisor": 16},
        )
        towers = DAMSMModel(config)
        with torch.no_grad():
            for _ in range(20):  # BatchNorm gets to know pictures: else all would be embedded alike
                towers.image_encoder(torch.rand(8, 3, 20, 20) * 2 - 1)
        towers.save_pretrained(folders[-1])
        save_tokenizer(tokenizer, folders[-1])
    return [str(folder) for folder in folders]


def test_numbers_are_those_of_a_loop_over_rows():
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(12, 4), dim=1) for _ in range(2))
    labels = np.arange(12) % 3
    values = Representations("x", "", images, texts, labels).measure()
    assert list(values) == list(MEASURED)
    assert values["alignment"] == pytest.approx(np.mean([float((a - b).norm() ** 2) for a, b in zip(images, texts)]))
    both, twice = torch.cat([images, texts]), np.tile(labels, 2)
    same = [(i, j) for i in range(24) for j in range(24) if i != j and twice[i] == twice[j]]
    distances = [float((both[i] - both[j]).norm() ** 2) for i, j in same]
    assert values["label_alignment"] == pytest.approx(np.mean(distances), rel=1e-5)
    pairs = [float((a - b).norm() ** 2) for i, a in enumerate(texts) for j, b in enumerate(texts) if i != j]
    assert values["text_uniformity"] == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(pairs)))), rel=1e-5)
    nearest = [sorted((j for j in range(12) if j != i), key=lambda j: -images[i] @ texts[j])[:10] for i in range(12)]
    hits = np.mean([labels[j] == labels[i] for i in range(12) for j in nearest[i]])
    assert values["image_to_text"] == pytest.approx(hits) and values["chance"] == pytest.approx(3 / 11)


def test_a_space_of_labels_is_seen_as_one():
    labels = np.repeat(np.arange(4), 12)
    x = torch.eye(4)[labels]
    values = Representations("x", "", x, x, labels).measure()
    assert values["alignment"] == values["label_alignment"] == 0
    assert [values[f"{a}_to_{b}"] for a in ("image", "text") for b in ("image", "text")] == [1, 1, 1, 1]


def test_rows_without_a_known_word_are_left_out(encoders):
    rows = load_rows("emoji", "test").select(range(6))
    captions = rows["captions"][:]
    captions[2] = ["zyxwv"]
    changed = rows.remove_columns("captions").add_column("captions", captions, feature=rows.features["captions"])
    found, whole = (represent(encoders[0], one) for one in (changed, rows.select([0, 1, 3, 4, 5])))
    assert found.labels.tolist() == whole.labels.tolist()
    torch.testing.assert_close(found.sent_emb, whole.sent_emb)
    torch.testing.assert_close(found.image_emb.norm(dim=1), torch.ones(5))


def test_a_table_numbers_and_a_picture_are_written(encoders, tmp_path):
    table = show_representations(encoders, tmp_path / "out", rows=ROWS)
    assert "| plain (1) | scl (2) |" in table and table.count("\n") == 1 + len(MEASURED)
    assert (tmp_path / "out" / "representations.md").read_text() == table + "\n"
    written = json.loads((tmp_path / "out" / "representations.json").read_text())
    assert [one["rows"] for one in written["encoders"]] == [ROWS, ROWS]
    assert written["protocol"]["split"] == "test" and set(written["encoders"][0]["values"]) == set(MEASURED)
    with Image.open(tmp_path / "out" / "representations.png") as picture:
        assert picture.width > 1000


@pytest.fixture(scope="module")
def model(encoders, tmp_path_factory):
    """An untrained GAN that knows the words of the encoders."""
    tokenizer = AutoTokenizer.from_pretrained(encoders[0])
    config = SSAGANConfig(**TINY["ssagan"], text_config=tiny_text("ssagan", len(tokenizer)))
    folder = tmp_path_factory.mktemp("runs") / "drawer" / "model"
    SSAGANForTextToImage(config).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return str(folder)


def test_what_a_model_draws_stands_beside_real_pictures(encoders, model, tmp_path):
    table = show_representations(encoders[:1], tmp_path / "out", rows=ROWS, models=[model])
    assert "| real, 16 px (1) | drawer (2) |" in table
    written = json.loads((tmp_path / "out" / "representations.json").read_text())
    assert [one["name"] for one in written["protocol"]["models"]] == [model]
    real, drawn = (one["values"] for one in written["pictures"])
    assert real["text_to_text"] == drawn["text_to_text"] and real["alignment"] != drawn["alignment"]

    rows = load_rows("emoji", "test")
    rows = rows.select(evenly_spaced(len(rows), ROWS))
    whole, tokenizer = SSAGANForTextToImage.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    towers = DAMSMModel.from_pretrained(encoders[0]).eval()
    captions = [next(one for one in captions if tokenizer(one)["input_ids"]) for captions in rows["captions"]]
    noise, _ = sample_noise(whole.config, ROWS, seeded_generator(0), None)
    encoded = encode_prompts(tokenizer, captions)
    with torch.no_grad():
        image_emb = towers.image_encoder(whole.generate(**encoded, noise=noise).images[-1]).image_emb
        sent_emb = towers.text_encoder(**encoded).sent_emb
    expected = 2 - 2 * F.cosine_similarity(image_emb, sent_emb).mean().item()
    assert drawn["alignment"] == pytest.approx(expected, rel=1e-4)


def test_models_are_shown_by_one_pair_of_encoders(encoders, model, tmp_path):
    with pytest.raises(ValueError, match="by one pair of encoders, and 2 are named"):
        show_representations(encoders, tmp_path / "out", rows=4, models=[model])
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named_before_the_work(encoders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)  # importing it fails then
    with pytest.raises(ValueError, match=r'^scikit-learn, .* is not installed; pip install "t2i_supcon\[maps\]"$'):
        show_representations(encoders, tmp_path / "out", rows=4)
    assert not (tmp_path / "out").exists()


def test_encoders_that_are_not_there_leave_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        show_representations([str(tmp_path / "nowhere")], tmp_path / "out", rows=4)
    assert not (tmp_path / "out").exists()
