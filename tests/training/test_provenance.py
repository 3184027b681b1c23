"""What lies beside a saved model tells how it came about."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from conftest import write_dataset
from huggingface_hub import ModelCard
from PIL import Image
from training.conftest import encoder_recipe, gan_recipe, newest

from t2i_supcon.cards import is_made
from t2i_supcon.training import train
from t2i_supcon.training.provenance import describe_data, hardware
from t2i_supcon.training.recipe import parse_recipe


def test_both_phases_describe_what_they_save(tiny_data, phase1, tmp_path):
    described = shutil.copytree(tiny_data, tmp_path / "data")
    (described / "README.md").write_text("---\n---\n# Tiny shapes\n\n- Licence: none at all\n")
    recipe = gan_recipe(described, phase1 / "model", steps=4, gradient_accumulation=2)
    train(recipe, tmp_path / "phase2")
    for folder, of, rows, shown in (
        (phase1, encoder_recipe(tiny_data), 8, "DAMSM encoders"),
        (tmp_path / "phase2", recipe, 16, "SSA-GAN trained on Tiny shapes, with supervised contrast"),
    ):
        model = folder / "model"
        assert parse_recipe(yaml.safe_load((model / "recipe.yaml").read_text())) == of
        facts = json.loads((model / "training.json").read_text())
        assert facts["step"] == of.steps and facts["images_seen"] == of.steps * rows
        assert facts["seconds"] > 0 and facts["processes"] == 1 and "torch" in facts["versions"]
        assert facts["samples"] and all(Image.open(model / sample["file"]).mode for sample in facts["samples"])
        text = (model / "README.md").read_text()
        assert is_made(text) and shown in text and f"| images seen | {of.steps * rows:,} |" in text
        assert (folder / "best" / "README.md").exists()
        assert ModelCard(text).data.library_name == "t2i_supcon"
    assert "- Data: none at all." in text
    widget = ModelCard(text).data.widget
    assert [entry["output"]["url"] for entry in widget] == [sample["file"] for sample in facts["samples"]]


def test_images_and_seconds_of_all_batch_sizes_are_added_up(tiny_data, tmp_path):
    recipe = encoder_recipe(tiny_data, steps=5)
    train(recipe, tmp_path / "run", max_steps=3)
    before = newest(tmp_path / "run")
    train(replace(recipe, batch_size=4), tmp_path / "run", resume=True)
    facts = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert facts["images_seen"] == 3 * 8 + 2 * 4
    assert facts["seconds"] > before["seconds"] + before["window"][2] > 0


@pytest.mark.parametrize("name", ["emoji", "me/data"])
def test_data_without_a_folder_is_embedded_or_of_the_hub(name):
    found = describe_data(name)
    assert found["name"] == name and found["on_hub"] == (name == "me/data")
    assert bool(found["licence"]) == (name == "emoji")


def test_a_folder_of_data_is_described_by_its_card(tmp_path):
    folder = write_dataset(tmp_path / "data", [0])
    nothing = {"name": str(folder), "title": None, "licence": None, "on_hub": False}
    assert describe_data(str(folder)) == nothing
    (folder / "README.md").write_text("# Birds\n- Licence: research only\n# More\n")
    assert describe_data(str(folder)) == nothing | {"title": "Birds", "licence": "research only"}


def test_a_device_is_named():
    assert hardware(torch.device("cpu")).startswith("CPU (")
