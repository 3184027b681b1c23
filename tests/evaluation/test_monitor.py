"""A generator watched while it trains, against the same pictures judged by hand."""

import json
import sys
from pathlib import Path

import forked
import pytest
import torch
from conftest import CAPTIONS, tiny_config

from t2i_supcon.data import build_tokenizer, load_rows
from t2i_supcon.evaluation import GeneratorMonitor
from t2i_supcon.evaluation.pictures import RealPictures
from t2i_supcon.metrics import feature_statistics, frechet_distance
from t2i_supcon.metrics.features import feature_network
from t2i_supcon.models import GANS, draw_images, sample_noise, seeded_generator


@pytest.fixture
def watched(encoders, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("T2I_SUPCON_CACHE", str(tmp_path / "cache"))
    tokenizer = build_tokenizer(CAPTIONS, max_words=6)
    encoders.save_pretrained(tmp_path / "encoders")
    composite = GANS["ssagan"].composite(tiny_config("ssagan", len(tokenizer)))
    held_out, training = (load_rows(str(tiny_data), split) for split in ("test", "train"))
    features = f"encoder:{tmp_path / 'encoders'}"
    monitor = GeneratorMonitor(features, ["frechet", "label_accuracy"], 30, held_out, training, tokenizer, 16)
    return monitor, composite, tokenizer, held_out, feature_network(features)


def test_its_numbers_are_those_of_the_pictures(watched):
    monitor, composite, tokenizer, held_out, network = watched
    composite.train()
    before = torch.get_rng_state()
    numbers = monitor.measure(composite.text_encoder, composite.generator, batch_size=7)
    assert torch.equal(before, torch.get_rng_state()) and composite.generator.training
    assert numbers == monitor.measure(composite.text_encoder, composite.generator, batch_size=7)
    assert numbers.keys() == {
        *("frechet", "frechet_training_images", "label_accuracy", "label_accuracy_held_out_images")
    }
    encoded = tokenizer([prompt.caption for prompt in monitor.prompts], padding=True, return_tensors="pt")
    noise = sample_noise(composite.config, 30, seeded_generator(0))
    with torch.no_grad():
        networks = composite.text_encoder, composite.generator
        images = draw_images(*networks, encoded["input_ids"], encoded["attention_mask"], *noise).images[-1]
    real = torch.cat([batch.images for batch in RealPictures(held_out, 16).batches(100)])
    sets = [feature_statistics(network(pictures)) for pictures in (real, images)]
    assert numbers["frechet"] == pytest.approx(frechet_distance(*sets), rel=1e-4)
    lines = monitor.report({"frechet": 3.0, "label_accuracy": 0.1}, numbers | {"frechet": 2.0})
    assert "untrained 3   trained 2   training images" in lines[1] and "held-out images" in lines[2]


def test_every_number_of_a_measure_is_reported(watched, tiny_data):
    rows = [load_rows(str(tiny_data), split) for split in ("test", "train")]
    features, names = f"encoder:{tiny_data.parent / 'encoders'}", ["precision_recall", "label_accuracy"]
    monitor = GeneratorMonitor(features, names, 30, *rows, watched[2], 16, {f"class {i}": "all" for i in range(3)})
    numbers = monitor.measure(watched[1].text_encoder, watched[1].generator)
    _, *lines = monitor.report(numbers, numbers)
    assert [line.split()[0] for line in lines] == ["precision", "recall", "label_accuracy", "group_accuracy"]
    assert all("images" in line for line in lines)  # the numbers of real ones, too


def test_several_processes_share_the_pictures_and_find_the_same(watched, tiny_data, tmp_path):
    _, composite, tokenizer, *_ = watched
    for part in (composite, tokenizer):
        part.save_pretrained(tmp_path / "model")
    script = Path(__file__).with_name("monitor_of_several.py")
    command = [sys.executable, script, f"encoder:{tmp_path / 'encoders'}", tmp_path / "model", tiny_data]
    forked.run_together([*command, tmp_path / "alone.json"], processes=1).check_returncode()
    forked.run_together([*command, tmp_path / "of-{rank}.json"]).check_returncode()
    alone, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("alone", "of-0", "of-1"))
    assert first[0] == second[0] == pytest.approx(alone[0], rel=1e-5)
    assert [drawn for _, drawn, _ in (alone, first, second)] == [31, 16, 15]
    assert all(untouched for *_, untouched in (alone, first, second))


def test_what_it_cannot_measure_is_refused_before_training(watched, tiny_data):
    rows = load_rows(str(tiny_data), "test")
    with pytest.raises(ValueError, match="is needs a feature network with classes of its own"):
        GeneratorMonitor(f"encoder:{tiny_data.parent / 'encoders'}", ["is"], 10, rows, rows, watched[2], 16)
