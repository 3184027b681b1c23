"""The emoji recipes at their own sizes on the embedded data: their first steps."""

import json
from pathlib import Path

import pytest
from transformers import AutoModel

from t2i_supcon.models import GANS
from t2i_supcon.training import load_recipe, train

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"
SHORT = ["steps=2", "eval_rows=100", "log_every=1"]
UNJUDGED = ["evaluation.features=null", "best_metric=frechet_encoder"]
ENCODERS = {"galip": "clip"}  # the other GANs' encoders are DAMSM's


def first_steps(name, folder, *overrides):
    shorter = UNJUDGED if name.startswith(tuple(GANS)) else []  # thousands of real pictures are another test's
    recipe = load_recipe(name, RECIPES, [*SHORT, *shorter, *overrides])
    train(recipe, folder)
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    computed = set().union(*steps)
    assert set(recipe.loss_weights) <= computed, recipe.loss_weights.keys() - computed
    return AutoModel.from_pretrained(folder / "model")


@pytest.fixture(scope="module")
def phase1(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phase1")
    for name in ("damsm", "clip"):
        first_steps(f"{name}-emoji", folder / name)
    return folder


@pytest.mark.parametrize("name", ["damsm-emoji-baseline", "clip-emoji-baseline"])
def test_baseline_encoders(name, tmp_path):
    first_steps(name, tmp_path)


@pytest.mark.parametrize("variant", ["emoji", "emoji-baseline"])
def test_gan(gan_name, variant, phase1, tmp_path):
    encoders = phase1 / ENCODERS.get(gan_name, "damsm") / "model"
    model = first_steps(f"{gan_name}-{variant}", tmp_path, f"encoders={encoders}")
    assert isinstance(model, GANS[gan_name].composite)
