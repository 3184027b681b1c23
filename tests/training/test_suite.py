"""Suites: what they plan, that they go on where they were stopped, and that a failure stops nobody
else."""

import dataclasses
import json
import os
import runpy
import shutil
import signal
import threading
import time
from pathlib import Path

import forked
import pytest
import torch
import yaml
from conftest import TINY, TINY_IMAGE, TINY_TEXT
from huggingface_hub import ModelCard

from t2i_supcon.evaluation import Evaluation
from t2i_supcon.evaluation.protocol import Protocol
from t2i_supcon.models import DAMSMConfig, DAMSMModel, SSAGANConfig, SSAGANForTextToImage
from t2i_supcon.models.weights import weights_hash
from t2i_supcon.training import suite
from t2i_supcon.training.checkpoint import list_checkpoints
from t2i_supcon.training.recipe import load_recipe, recipe_values

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
    assert [job.needs for job in gans] == [(tmp_path / "out" / f"enc-seed{seed}",) for seed in (0, 5, 0, 5)]
    assert gans[3].overrides == ("seed=5", f"encoders={tmp_path / 'out' / 'enc-seed5' / 'model'}")
    (recipes / "other.yaml").write_text("base: enc\n")
    around = [{"recipe": "scl", "overrides": ["encoders=runs/other/model", "steps=3"]}]
    chosen = dataclasses.replace(cells(tiny_data, tmp_path), cells=around)
    (job,) = suite.plan(chosen, tmp_path / "out", recipes)[1]
    assert job.needs == (tmp_path / "out" / "other-seed0",)  # of the suite, as the folder that an override names is
    planned = load_recipe(job.recipe, recipes, list(job.overrides))
    assert planned.encoders == str(job.needs[0] / "model") and planned.steps == 3
    text = suite.describe([*encoders, *gans])
    assert "to do  scl-seed5" in text and "about 15 min" in text
    assert "6 of 6 to run, about 0.5 h one after another; how long 4 of them take is not known" in text
    assert suite.describe(encoders).endswith("\n2 of 2 to run; how long they take is not known")


def test_a_judge_reads_the_captions_of_all_cells_and_guides_none(recipes, tiny_data, tmp_path):
    chosen = dataclasses.replace(cells(tiny_data, tmp_path), judge={"recipe": "enc", "seed": 9})
    encoders, gans = suite.plan(chosen, tmp_path / "out", recipes)
    assert [job.folder.name for job in encoders] == ["enc-seed9", "enc-seed0"]
    judge = tmp_path / "out" / "enc-seed9"
    for job in gans:
        evaluate = job.commands(SCRIPTS)[1]
        assert evaluate[evaluate.index("--encoders") + 1] == str(judge / "model") and job.needs[0] == judge
    with pytest.raises(ValueError, match="the judge enc-seed0 would guide cells, too"):
        suite.plan(dataclasses.replace(chosen, judge={"recipe": "enc", "seed": 0}), tmp_path / "out", recipes)
    with pytest.raises(ValueError, match="'scl' of encoders is of phase 2"):
        suite.plan(dataclasses.replace(chosen, judge={"recipe": "scl", "seed": 9}), tmp_path / "out", recipes)
    with pytest.raises(FileNotFoundError, match="nobody"):
        suite.plan(dataclasses.replace(chosen, judge={"recipe": "nobody", "seed": 9}), tmp_path / "out", recipes)


def test_all_trainings_get_the_options_of_the_suite(recipes, tiny_data, tmp_path):
    chosen = dataclasses.replace(cells(tiny_data, tmp_path), training=["--mixed-precision", "no"])
    for jobs in suite.plan(chosen, tmp_path / "out", recipes):
        for job in jobs:
            train, *evaluate = job.commands(SCRIPTS)
            assert train[train.index("--mixed-precision") + 1] == "no"
            assert tuple(train[-len(job.overrides) :]) == job.overrides
            assert not any("--mixed-precision" in command for command in evaluate)


def test_a_suite_runs_goes_on_and_compares(recipes, tiny_data, tmp_path, capsys, caplog, monkeypatch):
    monkeypatch.setenv("T2I_SUPCON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(suite.subprocess, "Popen", forked.Forked)  # the same scripts, started at once
    monkeypatch.chdir(SCRIPTS.parent)
    (recipes / "broken.yaml").write_text("base: scl\nmodel_config: {image_size: 17}\n")
    (recipes / "enc-broken.yaml").write_text("base: enc\nword_vectors: nowhere.safetensors\n")
    (recipes / "lost.yaml").write_text("base: scl\nencoders: runs/enc-broken/model\n")
    chosen = cells(tiny_data, tmp_path, names=("broken", "lost", "plain", "scl"))
    failed = suite.run_suite(chosen, tmp_path / "out", recipes_in_scripts(recipes, tmp_path), tmp_path / "scripts")
    assert [job.folder.name for job in failed] == ["broken-seed0", "enc-broken-seed0", "lost-seed0"]
    assert "lost-seed0 left out: its encoders enc-broken-seed0 failed" in caplog.text
    assert not (tmp_path / "out" / "lost-seed0").exists()
    assert "image_size is 17" in (tmp_path / "out" / "broken-seed0" / "suite.log").read_text()
    table, progress = capsys.readouterr()
    assert "scl-seed0: done" in progress and "6/6" in progress
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


def test_runs_of_other_settings_are_not_those_of_the_suite(recipes, tiny_data, tmp_path):
    chosen, out = cells(tiny_data, tmp_path), tmp_path / "out"
    jobs = [job for jobs in suite.plan(chosen, out, recipes) for job in jobs]
    for job in jobs:
        job.folder.mkdir(parents=True)
        made = recipe_values(load_recipe(job.recipe, recipes, list(job.overrides))) | {"checkpoint_every": 7}
        made |= {"encoders": "elsewhere/enc-seed0/model"} if job.needs else {}  # the folder of all was moved
        (job.folder / "recipe.yaml").write_text(yaml.safe_dump(made))
    suite.check_recipes(jobs, recipes)
    changed = dataclasses.replace(chosen, overrides=["steps=6"])
    with pytest.raises(ValueError, match=r"plain-seed0 is of another recipe \(steps 2, here 6\): choose another --out"):
        suite.run_suite(changed, out, recipes, SCRIPTS)


def test_cells_with_overrides_have_rows_of_their_own(recipes, tiny_data, tmp_path, capsys):
    varied = [{"recipe": "scl"}, {"recipe": "scl", "overrides": ["loss_weights.supcon=3"]}, {"recipe": "plain"}]
    varied.append({"recipe": "scl", "overrides": ["positives=any"]})
    chosen, out = dataclasses.replace(cells(tiny_data, tmp_path), cells=varied), tmp_path / "out"
    encoders, gans = suite.plan(chosen, out, recipes)
    for number, job in enumerate([*encoders, *gans]):
        job.result.parent.mkdir(parents=True, exist_ok=True)
        if job.evaluation is None:
            job.result.mkdir()
            continue
        recipe = recipe_values(load_recipe(job.recipe, recipes, list(job.overrides)))
        protocol = Protocol({"network": "x"}, "d", "1", "test", 9, 9, 8, "first", 0, None, {"frechet": {}})
        Evaluation({"frechet": number}, {}, protocol, {"recipe": yaml.safe_dump(recipe)}).save(job.result)
    assert not suite.run_suite(chosen, out, recipes, SCRIPTS)
    table = capsys.readouterr().out
    rows = [line.split("|")[2].strip() for line in table.splitlines() if line.startswith("| SSA-GAN")]
    assert rows == ["baseline", "+SCL", "+SCL (any)", "+SCL, loss_weights.supcon=3"]


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_signal_stops_what_runs_and_starts_no_more(
    number, raised, recipes, tiny_data, tmp_path, monkeypatch, caplog, request
):
    monkeypatch.setattr(suite.subprocess, "Popen", forked.Forked)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest's own workers ignore Ctrl-C
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    (recipes / "enc.yaml").write_text((recipes / "enc.yaml").read_text().replace("steps: 2", "steps: 5000"))
    out = tmp_path / "out"
    log = out / "enc-seed0" / "metrics.jsonl"

    def kill_once_it_trains():
        while not (log.exists() and log.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=kill_once_it_trains, daemon=True).start()
    with pytest.raises(raised):
        suite.run_suite(cells(tiny_data, tmp_path), out, recipes_in_scripts(recipes, tmp_path), tmp_path / "scripts")
    assert not caplog.records  # nothing failed
    assert "stopping after this step" in (out / "enc-seed0" / "suite.log").read_text()
    assert list_checkpoints(out / "enc-seed0" / "checkpoints"), "the training wrote none"
    assert [folder.name for folder in out.iterdir()] == ["enc-seed0"]


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
        ("cells: [{recipe: scl}]\nseeds: [-1]\n", "seeds are .-1.; they are a list of whole numbers from 0 up"),
        ("cells: [{recipe: scl, seeds: 3}]\nseeds: [0]\n", "seeds are 3; they are a list of whole numbers"),
        ("cells: [{recipe: scl, overrides: steps=2}]\nseeds: [0]\n", "overrides are .*steps=2.*a list of strings"),
        ("cells: [{recipe: scl}]\nseeds: [0]\nevaluation: [--bootstrap, 9]\n", "evaluation are .*quote its numbers"),
        ("cells: [{recipe: scl}]\nseeds: [0]\ntraining: [--max-steps, 9]\n", "training are .*quote its numbers"),
        ("cells: [{recipe: scl}]\nseeds: [0]\nminutes: 9\n", "minutes are 9; they are a number for each recipe"),
        ("cells: [{recipe: scl}]\nseeds: [0]\nsteps: 3\n", "a suite has no 'steps'"),
        ("cells: [{recipe: scl}]\nseeds: [0]\njudge: enc\n", "judge is enc; it has recipe and seed"),
        ("cells: [{recipe: scl}]\nseeds: [0]\njudge: {recipe: enc, seed: abc}\n", "seed, a name and a whole number"),
        ("cells: [{recipe: scl}]\nseeds: [0]\njudge: {recipe: [enc], seed: 1}\n", "judge is .*; it has recipe and"),
        ("cells: [{recipe: [scl]}]\nseeds: [0]\n", "the recipe of a cell is .'scl'.; it must be the name of one"),
        ("cells: [{recipe: scl}]\nseeds: [0]\nmetric: [kid]\n", "metric is .'kid'.; it must be the name of one"),
    ],
)
def test_what_is_no_suite_is_named(text, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        suite.load_suite("mine", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("encoder_overrides: [stepz=5]", "enc.yaml: there is no field 'stepz' .did you mean 'steps'"),
        ("encoder_overrides: [loss_weights.d_adv=1]", "enc.yaml: loss_weights names 'd_adv', but phase 'encoders'"),
        ("seeds: [9999999999]", "seed is 9,999,999,999; it must be at least 0"),
        ('evaluation: [--imagez, "4"]', "evaluation of the suite: unrecognized arguments: --imagez 4"),
        ("evaluation: [--images, four]", "evaluation of the suite: argument --images: invalid int value: 'four'"),
        ("evaluation: [--metrics, frechett]", "evaluation of the suite: there is no metric 'frechett'"),
        ("metric: frechett", "metric of the suite is 'frechett', and .* frechet, kid.*did you mean 'frechet'"),
        ("metric: r_precision", "metric of the suite is 'r_precision', and its evaluation measures frechet, kid"),
        ("judge: {recipe: enc, seed: 9}", "evaluation of the suite: encoders are named, but no metric that reads"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_would_fail_in_the_middle_is_refused_before_anything_runs(
    changes, message, dry_run, recipes, tmp_path, monkeypatch
):
    values = {"cells": [{"recipe": "scl"}], "seeds": [0]} | yaml.safe_load(changes)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    script = runpy.run_path(str(SCRIPTS / "run_suite.py"))["main"]
    recipes_in_scripts(recipes, tmp_path)
    monkeypatch.setitem(script.__globals__, "SCRIPTS", tmp_path / "scripts")
    options = ["--suite", str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        script([*options, "--dry-run"] if dry_run else options)
    assert not (tmp_path / "out").exists()


def test_cells_that_cannot_run_are_named(recipes, tiny_data, tmp_path):
    with pytest.raises(ValueError, match="'enc' of a cell is of phase 1"):
        suite.plan(cells(tiny_data, tmp_path, names=("enc",)), tmp_path / "out", recipes)
    with pytest.raises(ValueError, match="the cell scl-seed0 stands twice"):
        suite.plan(cells(tiny_data, tmp_path, names=("scl", "scl")), tmp_path / "out", recipes)
    with pytest.raises(ValueError, match="at_once is 0"):
        suite.run_suite(cells(tiny_data, tmp_path), tmp_path / "out", recipes, SCRIPTS, at_once=0)


@pytest.mark.parametrize("name", ["emoji", "cub", "coco"])
def test_shipped_suites_plan(name, tmp_path):
    chosen = suite.load_suite(name, SCRIPTS / "suites")
    suite.check_evaluation(chosen, SCRIPTS)
    encoders, gans = suite.plan(chosen, tmp_path, SCRIPTS / "recipes")
    assert ("how long they take is not known" in suite.describe([*encoders, *gans])) == (name != "emoji")
    of_the_paper = {
        f"{gan}-{name}{end}" for gan in ("attngan", "dmgan", "ssagan", "galip") for end in ("", "-baseline")
    }
    assert {job.recipe for job in gans} >= of_the_paper
    assert encoders


def test_the_search_for_a_setting_takes_other_seeds_than_those_reported(tmp_path):
    reported, searched = (
        suite.plan(suite.load_suite(name, SCRIPTS / "suites"), tmp_path, SCRIPTS / "recipes")[1]
        for name in ("emoji", "emoji-search")
    )
    seeds = [{one for job in jobs for one in job.overrides if one.startswith("seed=")} for jobs in (reported, searched)]
    assert seeds[0] == {"seed=0", "seed=1", "seed=2"} and seeds[1] and seeds[0].isdisjoint(seeds[1])


def finished(output, recipes, seeds=(0, 1), tokenizer=None):
    """What runs of phase 1 and of both GANs leave, without training them."""
    encoders = DAMSMModel(
        DAMSMConfig(text_config={**TINY_TEXT, "vocab_size": len(tokenizer)}, image_config=TINY_IMAGE)
    ).eval()
    for seed in seeds:
        for name in ("enc", "plain", "scl"):
            folder = output / f"{name}-seed{seed}"
            torch.manual_seed(seed)
            config = SSAGANConfig(**TINY["ssagan"], text_config=encoders.config.text_config.to_dict())
            model = encoders if name == "enc" else SSAGANForTextToImage(config).eval()
            model.save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
            overrides = [f"seed={seed}"] + (
                [] if name == "enc" else [f"encoders={output / f'enc-seed{seed}' / 'model'}"]
            )
            values = recipe_values(load_recipe(name, recipes, overrides))
            (folder / "model" / "recipe.yaml").write_text(yaml.safe_dump(values))
            if name != "enc":
                protocol = Protocol({"network": "n"}, "emoji", "0", "test", 9, 9, 16, "first", seed, None)
                found = Evaluation({"frechet": 10.0 + seed}, {}, protocol, {"weights": weights_hash(model)})
                (folder / "evaluation").mkdir()
                found.save(folder / "evaluation" / "evaluation.json")


def test_a_suite_is_published_as_repositories_whose_cards_point_to_each_other(
    hub, recipes, tiny_data, tokenizer, tmp_path
):
    output = tmp_path / "out"
    finished(output, recipes, tokenizer=tokenizer)
    shutil.rmtree(output / "plain-seed1" / "evaluation")  # begun, not finished
    chosen = cells(tiny_data, tmp_path, seeds=(0, 1))
    published = suite.publish_suite(chosen, output, recipes, "me", private=True)
    assert [one.repository for one in published] == ["me/enc-scl", "me/plain", "me/scl-scl"]
    for name, seeds in (("enc-scl", (0, 1)), ("plain", (0,)), ("scl-scl", (0, 1))):
        repo = hub.repos["model", f"me/{name}"]
        assert repo.private and set(repo.tags) == {f"seed-{seed}" for seed in seeds}
        assert repo.tags["seed-0"] == repo.branches["main"]
        for seed in seeds:
            folder = output / f"{name.removesuffix('-scl')}-seed{seed}"
            assert repo.files(f"seed-{seed}")["model.safetensors"] == (folder / "model/model.safetensors").read_bytes()
    cards = {name: ModelCard.load(f"me/{name}") for name in ("enc-scl", "plain", "scl-scl")}
    assert cards["plain"].data.base_model == cards["scl-scl"].data.base_model == "me/enc-scl"
    for name, card in cards.items():
        linked = {line.split("]")[0][3:]: line for line in card.text.splitlines() if line.startswith("- [me/")}
        assert set(linked) == {f"me/{other}" for other in cards} - {f"me/{name}"}
    assert "SSA-GAN, with supervised contrast (SCL); frechet 10.5, seeds: 2" in cards["plain"].text
    assert "SSA-GAN, the baseline without supervised contrast; frechet 10, seeds: 1" in cards["scl-scl"].text
    assert "DAMSM encoders, with supervised contrast (SCL)\n" in cards["plain"].text
    assert cards["plain"].data.eval_results[0].metric_value == 10.0


def test_repositories_of_the_shipped_suites_have_names_of_their_own(tmp_path, recipes, tiny_data):
    assert suite.repository_name(load_recipe("dmgan-coco", SCRIPTS / "recipes"), "dmgan-coco") == "dmgan-coco-scl"
    baseline = load_recipe("dmgan-coco-baseline", SCRIPTS / "recipes")
    assert suite.repository_name(baseline, "dmgan-coco-baseline") == "dmgan-coco"
    for name in ("emoji", "emoji-search", "cub", "coco"):
        chosen = suite.load_suite(name, SCRIPTS / "suites")
        assert suite.repositories(chosen, tmp_path, SCRIPTS / "recipes", "me") == []
        with pytest.raises(ValueError, match="holds no finished run of this suite"):
            suite.publish_suite(chosen, tmp_path, SCRIPTS / "recipes", "me")
    (recipes / "plain-baseline.yaml").write_text("base: plain\n")
    with pytest.raises(ValueError, match="plain-baseline and plain would both be published as me/plain"):
        suite.repositories(cells(tiny_data, tmp_path, ("plain", "plain-baseline")), tmp_path / "out", recipes, "me")
