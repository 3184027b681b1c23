"""Suites: what they plan, that they go on where they were stopped, and that a failure stops nobody
else."""

import json
import shutil
from pathlib import Path

import forked
import pytest
import yaml
from conftest import TINY, TINY_IMAGE, TINY_TEXT

from t2i_supcon.evaluation import Evaluation
from t2i_supcon.training import suite
from t2i_supcon.training.checkpoint import list_checkpoints

SCRIPTS = Path(__file__).parents[2] / "scripts"
RARELY = {"sample_every": 99, "eval_every": 99, "checkpoint_every": 1, "log_every": 1}


@pytest.fixture
def recipes(tiny_data, tmp_path):
    folder = tmp_path / "recipes"
    folder.mkdir()
    sizes = {"text_config": TINY_TEXT, "image_config": TINY_IMAGE}
    encoders = {"phase": "encoders", "model_config": sizes, "image_size": 16, "loss_weights": {"sent": 1, "supcon": 1}}
    gan = {
        "phase": "gan",
        "model": "ssagan",
        "encoders": "runs/enc/model",
        "model_config": TINY["ssagan"],
        "loss_weights": {"d_adv": 1, "g_adv": 1, "supcon": 0.1},
    }
    common = {"data": {"name": str(tiny_data)}, "steps": 2, "batch_size": 8, **RARELY}
    (folder / "enc.yaml").write_text(yaml.safe_dump(encoders | common))
    (folder / "scl.yaml").write_text(yaml.safe_dump(gan | common))
    (folder / "plain.yaml").write_text("base: scl\nloss_weights: {supcon: null}\nsampling: independent\n")
    return folder


def cells(tiny_data, tmp_path, names=("plain", "scl"), seeds=(0,)):
    features = f"encoder:{tmp_path / 'out' / 'enc-seed0' / 'model'}"
    options = ["--data", str(tiny_data), "--features", features, "--metrics", "frechet"]
    return suite.Suite([{"recipe": name} for name in names], list(seeds), evaluation=options, minutes={"scl": 15})


def test_phase_1_is_planned_once_for_all_that_build_on_it(recipes, tiny_data, tmp_path):
    encoders, gans = suite.plan(cells(tiny_data, tmp_path, seeds=(0, 5)), tmp_path / "out", recipes)
    assert [job.folder.name for job in encoders] == ["enc-seed0", "enc-seed5"]
    assert [job.folder.name for job in gans] == ["plain-seed0", "plain-seed5", "scl-seed0", "scl-seed5"]
    assert gans[3].overrides == ("seed=5", f"encoders={tmp_path / 'out' / 'enc-seed5' / 'model'}")
    text = suite.describe([*encoders, *gans])
    assert "to do  scl-seed5" in text and "about 15 min" in text and "6 of 6 to run, about 0.5 h" in text


def test_a_suite_runs_goes_on_and_compares(recipes, tiny_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("T2I_SUPCON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(suite.subprocess, "run", forked.run)  # the same scripts, started at once
    monkeypatch.chdir(SCRIPTS.parent)
    (recipes / "broken.yaml").write_text("base: scl\nmodel_config: {image_size: 17}\n")
    chosen = cells(tiny_data, tmp_path, names=("broken", "plain", "scl"))
    failed = suite.run_suite(chosen, tmp_path / "out", recipes_in_scripts(recipes, tmp_path), tmp_path / "scripts")
    assert [job.folder.name for job in failed] == ["broken-seed0"]
    assert "image_size is 17" in (tmp_path / "out" / "broken-seed0" / "suite.log").read_text()
    table = capsys.readouterr().out
    assert "| SSA-GAN | baseline |" in table and "| SSA-GAN | +SCL |" in table
    result = tmp_path / "out" / "scl-seed0" / "evaluation" / "evaluation.json"
    first = result.read_text()
    assert Evaluation.load(result).subject["model_type"] == "ssagan"

    shutil.rmtree(tmp_path / "out" / "plain-seed0" / "evaluation")  # as if stopped before it
    shutil.rmtree(tmp_path / "out" / "plain-seed0" / "model")
    shutil.rmtree(list_checkpoints(tmp_path / "out" / "plain-seed0" / "checkpoints")[-1])
    suite.run_suite(cells(tiny_data, tmp_path), tmp_path / "out", recipes, tmp_path / "scripts")
    assert result.read_text() == first  # not run again
    steps = [json.loads(line)["step"] for line in (tmp_path / "out/plain-seed0/metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 2 and (tmp_path / "out" / "plain-seed0" / "evaluation" / "evaluation.json").exists()


def recipes_in_scripts(recipes, tmp_path):
    """The scripts beside recipes of their own, where they look for named ones."""
    (tmp_path / "scripts").mkdir()
    for name in ("train.py", "evaluate.py"):
        shutil.copy(SCRIPTS / name, tmp_path / "scripts")
    (tmp_path / "scripts" / "recipes").symlink_to(recipes)
    return recipes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cells: []\nseeds: [0]\n", "cells must be a list of at least one"),
        ("cells: [{recipe: scl}]\nseeds: 3\n", "seeds must be a list of at least one"),
        ("cells: [scl]\nseeds: [0]\n", "a cell is scl; it has recipe"),
        ("cells: [{recipe: scl}]\nseeds: [0]\nsteps: 3\n", "a suite has no 'steps'"),
    ],
)
def test_what_is_no_suite_is_named(text, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        suite.load_suite("mine", tmp_path)


def test_cells_that_cannot_run_are_named(recipes, tiny_data, tmp_path):
    with pytest.raises(ValueError, match="'enc' of a cell is of phase 1"):
        suite.plan(cells(tiny_data, tmp_path, names=("enc",)), tmp_path / "out", recipes)
    with pytest.raises(ValueError, match="the cell scl-seed0 stands twice"):
        suite.plan(cells(tiny_data, tmp_path, names=("scl", "scl")), tmp_path / "out", recipes)


@pytest.mark.parametrize("name", ["emoji", "cub", "coco"])
def test_shipped_suites_plan(name, tmp_path):
    encoders, gans = suite.plan(suite.load_suite(name, SCRIPTS / "suites"), tmp_path, SCRIPTS / "recipes")
    assert len(gans) >= 8 and {job.recipe for job in gans} >= {f"{gan}-{name}" for gan in TINY}
    assert encoders
