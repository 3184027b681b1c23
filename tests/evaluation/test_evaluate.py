"""Evaluations of a small model: pictures by number alone, the same numbers whichever way they come,
and one clear error for what cannot be judged."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CAPTIONS, tiny_config
from PIL import Image
from torch.testing import assert_close

from t2i_supcon.data import build_tokenizer, load_rows
from t2i_supcon.evaluation import DrawnPictures, Evaluation, FolderPictures, Prompt, choose_prompts
from t2i_supcon.metrics import feature_statistics, frechet_distance, kernel_distance
from t2i_supcon.metrics.features import feature_network
from t2i_supcon.models import GANS

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate.py"
METRICS = ["frechet", "kid", "precision_recall", "density_coverage", "class_frechet", "label_accuracy"]


def load_script():
    spec = importlib.util.spec_from_file_location("evaluate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model():
    tokenizer = build_tokenizer(CAPTIONS, max_words=6)
    torch.manual_seed(1)
    composite = GANS["attngan"].composite(tiny_config("attngan", len(tokenizer))).eval()
    return composite, tokenizer


@pytest.fixture
def folders(model, encoders, tmp_path, monkeypatch):
    """A saved model, and encoders whose features judge it."""
    monkeypatch.setenv("T2I_SUPCON_CACHE", str(tmp_path / "cache"))
    for part in model:
        part.save_pretrained(tmp_path / "model")
    encoders.save_pretrained(tmp_path / "encoders")
    model[1].save_pretrained(tmp_path / "encoders")
    return tmp_path / "model", f"encoder:{tmp_path / 'encoders'}"


def test_a_picture_depends_on_seed_and_number_alone(model):
    prompts = [Prompt(CAPTIONS[i % 4], i % 3) for i in range(7)]
    composite, tokenizer = model
    parts = composite.text_encoder, composite.generator, tokenizer
    pictures = DrawnPictures(*parts, prompts, seed=3)
    together = torch.cat([batch.images for batch in pictures.batches(7)])
    found = {}
    for process in range(2):
        for batch in pictures.batches(2, process, 2):
            found |= dict(zip(batch.numbers, batch.images))
    assert sorted(found) == list(range(7))
    assert_close(torch.stack([found[i] for i in range(7)]), together, rtol=1e-5, atol=1e-5)
    assert not torch.equal(together[0], torch.cat([b.images for b in DrawnPictures(*parts, prompts).batches(7)])[0])


def test_prompts_follow_the_rows(tiny_data):
    rows = load_rows(str(tiny_data), "train")
    first = choose_prompts(rows, "first", None, seed=0)
    assert [prompt.caption for prompt in first[:3]] == [row[0] for row in rows["captions"][:3]]
    assert [prompt.label for prompt in first] == rows["label"][:]
    assert len(choose_prompts(rows, "all", None, seed=0)) == 48
    assert choose_prompts(rows, "first", 30, seed=0) == first + first[:6]
    assert choose_prompts(rows, "first", 2, seed=0) == [first[0], first[-1]]
    drawn = [choose_prompts(rows, "random", None, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    knows_stars = build_tokenizer(["star"], max_words=3)
    assert {prompt.caption for prompt in choose_prompts(rows, "all", None, 0, knows_stars)} == {"yellow star"}
    with pytest.raises(ValueError, match="no row has a caption with a word that the model knows"):
        choose_prompts(rows, "all", None, 0, build_tokenizer(["zebra"], max_words=3))


def test_a_model_and_its_saved_pictures_are_judged_alike(folders, tiny_data, tmp_path, capsys):
    model, features = folders
    common = ["--data", str(tiny_data), "--features", features, "--metrics", *METRICS, "--batch-size", "16"]
    load_script().main(
        ["--model", str(model), "--output", str(tmp_path / "drawn"), "--images", "60", "--save-images", *common]
    )
    printed = capsys.readouterr().out
    assert "| frechet |" in printed and "60 pictures of 32 px" in printed
    load_script().main(
        ["--images-folder", str(tmp_path / "drawn" / "images"), "--output", str(tmp_path / "folder"), *common]
    )
    drawn, folder = (Evaluation.load(tmp_path / name) for name in ("drawn", "folder"))
    assert drawn.values == pytest.approx(folder.values, rel=1e-6, nan_ok=True)
    assert drawn.yardstick == pytest.approx(folder.yardstick, rel=1e-6, nan_ok=True)
    assert Image.open(tmp_path / "drawn" / "images" / "000007.png").text["prompt"] in CAPTIONS
    assert Image.open(tmp_path / "drawn" / "evaluation.png").size > (300, 300)

    network = feature_network(features)
    images = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "drawn" / "images").glob("*.png"))]
    generated = network(torch.from_numpy(np.stack(images)).movedim(-1, 1) / 127.5 - 1)
    (kept,) = [
        path for path in (tmp_path / "cache" / "features").glob("*.npz") if len(np.load(path)["features"]) == 100
    ]
    real = np.load(kept)["features"]
    expected = frechet_distance(feature_statistics(real), feature_statistics(generated))
    assert drawn.values["frechet"] == pytest.approx(expected, rel=1e-4)
    assert drawn.values["kid"] == pytest.approx(kernel_distance(real, generated)[0], rel=1e-3, abs=1e-6)
    content = json.loads((tmp_path / "drawn" / "evaluation.json").read_text())
    assert content["protocol"]["generated"] == 60 and content["protocol"]["real"] == 100
    assert content["protocol"]["features"]["sha256"] and content["made"]["versions"]["torch"] == torch.__version__


def test_two_processes_find_the_same_numbers(folders, tiny_data, tmp_path):
    model, features = folders
    options = ["--model", model, "--data", tiny_data, "--features", features, "--images", "31", "--batch-size", "4"]
    options = [*map(str, options), "--metrics", "frechet", "kid", "label_accuracy"]
    load_script().main([*options, "--output", str(tmp_path / "one")])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(SCRIPT)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.pathsep.join(sys.path)}
    launched = [*launch, *options, "--output", str(tmp_path / "two")]
    subprocess.run(launched, check=True, capture_output=True, env=environment)
    one, two = (Evaluation.load(tmp_path / name) for name in ("one", "two"))
    assert one.values == pytest.approx(two.values, rel=1e-5)
    assert one.protocol == two.protocol


def test_what_cannot_be_judged_is_one_line(folders, tiny_data, tmp_path):
    model, features = folders
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    for name, size in (("a", 8), ("b", 9)):
        Image.new("RGB", (size, size)).save(tmp_path / "mixed" / f"{name}.png")
    cases = [
        (["--model", model, "--metrics", "fid"], "there is no metric 'fid'; known are frechet"),
        (["--model", model, "--metrics", "is"], "is needs a feature network with classes of its own"),
        (["--model", model, "--images", "1"], "images is 1; statistics need at least 2"),
        (["--model", model, "--data", tmp_path / "nowhere"], "nowhere"),
        (["--images-folder", tmp_path / "empty"], "there is no PNG file"),
        (["--images-folder", tmp_path / "mixed"], "must be square and of one size; found 8 x 8 .a.png., 9 x 9 .b.png."),
    ]
    for options, message in cases:
        arguments = ["--data", str(tiny_data), "--features", features, "--output", tmp_path / "out", *options]
        with pytest.raises(SystemExit, match=message):
            load_script().main([str(argument) for argument in arguments])
    assert not (tmp_path / "out").exists()


def test_labels_of_a_folder_come_from_its_pictures(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert FolderPictures(tmp_path).prompts == [Prompt("", -1)]
