"""Evaluations of a small model: the same numbers whichever way its pictures come, and one clear
error for what cannot be judged."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import datasets
import forked
import numpy as np
import pytest
import torch
from conftest import CAPTIONS, TINY_IMAGE, TINY_TEXT, encoded, picture, write_dataset
from PIL import Image
from transformers import AutoTokenizer

from t2i_supcon.data import build_tokenizer, load_rows
from t2i_supcon.evaluation import DrawnPictures, Evaluation
from t2i_supcon.evaluation.evaluate import embed_real, warn_of_bias
from t2i_supcon.evaluation.protocol import check_comparable
from t2i_supcon.metrics import feature_statistics, frechet_distance, kernel_distance
from t2i_supcon.metrics.features import feature_network
from t2i_supcon.models import DAMSMConfig, DAMSMModel
from t2i_supcon.models.weights import weights_hash

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate.py"
METRICS = ["frechet", "kid", "precision_recall", "density_coverage", "class_frechet", "label_accuracy"]
OF_CAPTIONS = ["r_precision", "clip_score"]


def load_script():
    spec = importlib.util.spec_from_file_location("evaluate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folders(model, encoders, tmp_path, monkeypatch):
    """A saved model, and encoders whose features judge it."""
    monkeypatch.setenv("T2I_SUPCON_CACHE", str(tmp_path / "cache"))
    for part in model:
        part.save_pretrained(tmp_path / "model")
    encoders.save_pretrained(tmp_path / "encoders")
    model[1].save_pretrained(tmp_path / "encoders")
    return tmp_path / "model", f"encoder:{tmp_path / 'encoders'}"


def test_a_model_and_its_saved_pictures_are_judged_alike(folders, encoders, tiny_data, tmp_path, capsys):
    model, features = folders
    common = [
        "--data",
        str(tiny_data),
        "--features",
        features,
        "--batch-size",
        "16",
        "--metrics",
        *METRICS,
        *OF_CAPTIONS,
    ]
    load_script().main(
        ["--model", str(model), "--output", str(tmp_path / "drawn"), "--images", "60", "--save-images", *common]
    )
    printed = capsys.readouterr().out
    assert "| frechet |" in printed and "60 pictures of 32 px" in printed
    load_script().main(
        ["--images-folder", str(tmp_path / "drawn" / "images"), "--output", str(tmp_path / "folder"), *common]
        + ["--bootstrap", "200"]
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
    shown = [Image.open(path).text["prompt"] for path in sorted((tmp_path / "drawn" / "images").glob("*.png"))]
    with torch.no_grad():
        read = AutoTokenizer.from_pretrained(model)(shown, padding=True, return_tensors="pt")
        sentences = encoders.text_encoder(read["input_ids"], read["attention_mask"]).sent_emb
    cosines = torch.cosine_similarity(generated.double(), sentences.double())
    assert drawn.values["clip_score"] == pytest.approx(cosines.mean().item(), abs=1e-5)
    assert folder.errors["clip_score"] == pytest.approx(cosines.std().item() / 60**0.5, rel=0.15)
    assert folder.errors.keys() == folder.values.keys() - {"frechet.bias"} and not drawn.errors
    assert 0 <= drawn.values["r_precision"] <= 1 and -1 <= drawn.yardstick["clip_score"] <= 1
    content = json.loads((tmp_path / "drawn" / "evaluation.json").read_text())
    assert content["protocol"]["generated"] == 60 and content["protocol"]["real"] == 100
    assert content["protocol"]["features"]["sha256"] and content["made"]["versions"]["torch"] == torch.__version__


def test_pictures_of_an_evaluation_that_was_stopped_are_drawn_again(folders, tiny_data, tmp_path, monkeypatch):
    model, features = folders
    out = tmp_path / "out"
    options = ["--model", model, "--data", tiny_data, "--features", features, "--metrics", "frechet", "--output", out]
    options = [str(one) for one in (*options, "--images", 9, "--batch-size", 3, "--save-images")]
    save = DrawnPictures._save

    def press_ctrl_c(pictures, numbers, images):
        save(pictures, numbers, images)
        if 4 in numbers:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(DrawnPictures, "_save", press_ctrl_c)
        load_script().main(options)
    assert stopped.value.code == 130 and not list(out.iterdir())
    (out / ".partial-images").mkdir()
    (out / ".partial-images" / "000059.png").touch()  # as a killed one leaves it
    load_script().main(options)
    assert sorted(path.name for path in (out / "images").iterdir()) == [f"00000{i}.png" for i in range(9)]
    assert sorted(path.name for path in out.iterdir()) == [
        *("evaluation.json", "evaluation.md", "evaluation.png", "images")
    ]


@pytest.fixture
def others(model, tokenizer, tmp_path):
    """A folder of encoders that are narrower than those of `folders`."""
    texts = {**TINY_TEXT, "hidden_size": 6, "vocab_size": len(model[1])}
    narrow = DAMSMModel(DAMSMConfig(text_config=texts, image_config={**TINY_IMAGE, "hidden_size": 6}))
    narrow.save_pretrained(tmp_path / "others")
    build_tokenizer(CAPTIONS[:3], max_words=6).save_pretrained(tmp_path / "others")  # no word of the last one
    return tmp_path / "others"


def test_captions_are_read_by_other_encoders_than_the_features(folders, others, tiny_data, tmp_path, capsys, caplog):
    model, features = folders
    for output, network, more in (
        ("both", features, ["--encoders", others, "--metrics", "frechet", "label_accuracy", *OF_CAPTIONS]),
        ("one", features, ["--metrics", "frechet", "label_accuracy"]),
        ("other", f"encoder:{others}", ["--metrics", *OF_CAPTIONS]),
    ):
        options = ["--model", model, "--data", tiny_data, "--features", network, "--images", "20", *more]
        load_script().main([*map(str, options), "--output", str(tmp_path / output)])
    both, one, other = (Evaluation.load(tmp_path / name) for name in ("both", "one", "other"))
    assert both.values == pytest.approx(one.values | other.values)
    assert both.yardstick == pytest.approx(one.yardstick | other.yardstick)
    assert both.protocol.features == one.protocol.features and one.protocol.encoders is None
    assert both.protocol.encoders == other.protocol.features
    assert both.protocol.encoders["sha256"] == weights_hash(DAMSMModel.from_pretrained(others))
    assert f"are read by another one: network encoder, sha256 {both.protocol.encoders['sha256']}" in (
        capsys.readouterr().out
    )
    assert "5 of 20 pictures have captions without a word that the encoders know" in caplog.text
    alone = dataclasses.replace(both, protocol=dataclasses.replace(both.protocol, encoders=None))
    with pytest.raises(ValueError, match="cannot be compared: encoders is .*network.* in the first and None"):
        check_comparable({"a": both, "b": alone})


def test_two_processes_find_the_same_numbers(folders, others, tiny_data, tmp_path):
    model, features = folders
    options = ["--model", model, "--data", tiny_data, "--features", features, "--images", "31", "--batch-size", "4"]
    options = [*map(str, options), "--encoders", str(others)]
    options += ["--metrics", "frechet", "kid", "label_accuracy", *OF_CAPTIONS]
    load_script().main([*options, "--output", str(tmp_path / "one")])
    done = forked.run_together([sys.executable, SCRIPT, *options, "--save-images", "--output", tmp_path / "two"])
    done.check_returncode()
    assert len(list((tmp_path / "two" / "images").glob("*.png"))) == 31
    assert not (tmp_path / "two" / ".partial-images").exists()
    assert done.stdout.count("| frechet |") == 1  # they know each other
    one, two = (Evaluation.load(tmp_path / name) for name in ("one", "two"))
    assert one.values == pytest.approx(two.values, rel=1e-5)
    assert one.protocol == two.protocol


def test_features_that_are_kept_are_used_and_damaged_ones_are_not(folders, tiny_data, tmp_path, caplog):
    rows, network = load_rows(str(tiny_data), "test"), feature_network(folders[1])
    first = embed_real(network, rows, 16, "hash", 64)
    (kept,) = (tmp_path / "cache" / "features").iterdir()
    with np.load(kept) as arrays:
        np.savez(kept, features=arrays["features"] + 1, labels=arrays["labels"], numbers=arrays["numbers"])
    assert (embed_real(network, rows, 16, "hash", 64).features == first.features + 1).all()
    assert not caplog.records
    kept.write_bytes(kept.read_bytes()[:-100])
    again = embed_real(network, rows, 16, "hash", 64)
    assert (again.features == first.features).all() and f"{kept} is damaged" in caplog.text
    assert (embed_real(network, rows, 16, "hash", 64).labels == first.labels).all()
    images = [{"bytes": encoded(picture(i)), "path": None} for i in (1, *range(1, len(rows)))]
    other = rows.remove_columns("image").add_column("image", images, feature=rows.features["image"])
    changed = embed_real(network, other, 16, "hash", 64).features != first.features
    assert changed.any(axis=1).nonzero()[0].tolist() == [0]


def test_rows_with_a_broken_image_are_left_out_as_if_they_were_not_there(folders, tmp_path, caplog):
    """Of 30 rows in each split row 4 is broken; captions still belong to their pictures."""
    for name, chosen in (("whole", [i for i in range(30) if i != 4]), ("broken", range(30))):
        for split in ("train", "test"):
            images = [encoded(picture(i)) for i in range(30)]
            images[4] = images[4][:60]
            captions = [[CAPTIONS[i % 3]] for i in chosen]
            write_dataset(tmp_path / name, [i % 2 for i in chosen], split, captions, [images[i] for i in chosen])
    drawn = tmp_path / "drawn" / "images"
    options = ["--model", folders[0], "--data", tmp_path / "whole", "--features", folders[1], "--metrics", "frechet"]
    load_script().main([str(one) for one in (*options, "--save-images", "--output", drawn.parent)])
    options = ["--images-folder", drawn, "--features", folders[1], "--metrics", "frechet", "label_accuracy"]
    options += [*OF_CAPTIONS, "--encoders", folders[1].removeprefix("encoder:"), "--batch-size", 7]

    def judge(name, *more):
        given = (*options, "--data", tmp_path / name, "--output", tmp_path / f"out-{name}", *more)
        load_script().main([str(one) for one in given])
        return Evaluation.load(tmp_path / f"out-{name}")

    with pytest.raises(SystemExit, match="row 4: test-4: the image .*--max-broken-share of evaluate.py"):
        judge("broken")
    with pytest.raises(SystemExit, match="max_broken_share is 1.0; it must be at least 0 and below 1"):
        judge("broken", "--max-broken-share", 1)
    found, expected = judge("broken", "--max-broken-share", "0.1"), judge("whole")
    assert found.values == pytest.approx(expected.values) and found.yardstick == pytest.approx(expected.yardstick)
    assert found.protocol.real == 29 and "row left out of evaluations, number 1 of 30" in caplog.text
    assert judge("broken", "--max-broken-share", "0.1").values == found.values  # of the features that were kept


def test_an_id_is_one_label_in_both_splits(folders, tmp_path):
    """Also where labels are words, of which the held-out split has not all."""
    for split, words in (("train", "abc"), ("test", "bc")):
        rows = {"label": [words[i % len(words)] for i in range(12)], "captions": [[CAPTIONS[0]]] * 12}
        rows["image"] = [{"bytes": encoded(picture(i)), "path": None} for i in range(12)]
        (tmp_path / "words").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "words" / f"{split}-00000-of-00001.parquet")
    model, features = folders
    options = ["--model", model, "--data", tmp_path / "words", "--features", features, "--metrics", "frechet"]
    load_script().main([str(option) for option in (*options, "--images", 4, "--output", tmp_path / "out")])
    labels = [np.load(path)["labels"] for path in (tmp_path / "cache" / "features").glob("*.npz")]
    assert {frozenset(found.tolist()) for found in labels} == {frozenset({0, 1, 2}), frozenset({1, 2})}


def test_data_may_call_its_columns_otherwise_and_have_no_labels(folders, tmp_path):
    (tmp_path / "named").mkdir()
    for split in ("train", "test"):
        rows = {"text": [CAPTIONS[i % 4] for i in range(8)], "picture": [encoded(picture(i)) for i in range(8)]}
        rows["picture"] = [{"bytes": one, "path": None} for one in rows["picture"]]
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "named" / f"{split}-00000-of-00001.parquet")
    model, features = folders
    options = ["--model", model, "--data", tmp_path / "named", "--features", features, "--metrics", "frechet"]
    options += ["--output", tmp_path / "out"]
    with pytest.raises(SystemExit, match="there is no column 'image'"):
        load_script().main([str(option) for option in options])
    load_script().main([str(one) for one in (*options, "--columns", "image=picture", "captions=text", "label=null")])
    protocol = Evaluation.load(tmp_path / "out").protocol
    assert (protocol.real, protocol.generated) == (8, 8)


def test_labels_that_no_training_row_has_are_not_asked_for(folders, tmp_path, caplog):
    """As in CUB's split, whose classes are disjoint."""
    model, features = folders
    data = write_dataset(write_dataset(tmp_path / "data", [0, 1] * 4), [2, 3] * 4, "test")
    common = ["--model", model, "--data", data, "--features", features, "--output", tmp_path / "out"]

    def evaluate(*more):
        load_script().main([str(one) for one in (*common, *more)])

    asked = "--metrics", "frechet", "label_accuracy"
    held_out = "no label of the held-out rows is among those of the training rows, so label_accuracy cannot be measured"
    with pytest.raises(SystemExit, match=f"{held_out}: name metrics without it"):
        evaluate(*asked, "--save-images")
    with pytest.raises(SystemExit, match="no label of the pictures is among those of the training rows"):
        evaluate(*asked, "--split", "train", "--prompts-split", "test")
    assert not list(tmp_path.glob("out/**/*.*")) and not (tmp_path / "cache").exists()  # nothing drawn or embedded
    evaluate()
    assert Evaluation.load(tmp_path / "out").values.keys() == {"frechet", "frechet.bias", "kid"}
    assert f"{held_out}: it is left out" in caplog.text


def test_pictures_without_labels_are_judged_by_the_rest_of_the_default(folders, tiny_data, tmp_path, caplog):
    (tmp_path / "plain").mkdir()
    for i in range(6):
        picture(i).resize((16, 16)).save(tmp_path / "plain" / f"{i}.png")
    options = ["--images-folder", tmp_path / "plain", "--data", tiny_data, "--features", folders[1]]
    options += ["--output", tmp_path / "out"]
    load_script().main([str(one) for one in options])
    assert Evaluation.load(tmp_path / "out").values.keys() == {"frechet", "frechet.bias", "kid"}
    assert "no label of the pictures is among those of the training rows" in caplog.text
    with pytest.raises(SystemExit, match="label_accuracy needs labels .*--metrics frechet kid"):
        load_script().main([*map(str, options), "--metrics", "label_accuracy"])


def test_a_model_of_other_data_is_judged_with_a_word(folders, tiny_data, tmp_path, caplog):
    model, features = folders
    (model / "training.json").write_text(json.dumps({"data": {"name": "data/birds"}}))
    options = ["--model", model, "--data", tiny_data, "--features", features, "--metrics", "frechet", "--images", "4"]
    load_script().main([str(one) for one in (*options, "--output", tmp_path / "out")])
    assert f"was trained on 'data/birds' and is judged by '{tiny_data}': see --data" in caplog.text


def test_a_distance_that_is_mostly_bias_is_warned_of(caplog):
    warn_of_bias(distance=100.0, bias=9.0, generated=5000, real=1000)
    assert not caplog.records
    warn_of_bias(distance=100.0, bias=40.0, generated=500, real=1000)
    (record,) = caplog.records
    assert "of the Frechet distance of 100 between 500 pictures and 1000 real ones, about 40" in record.getMessage()
    warn_of_bias(distance=100.0, bias=300.0, generated=20, real=1000)
    assert "distance of 100 between 20 pictures and 1000 real ones says nothing" in caplog.messages[-1]


def test_what_cannot_be_judged_is_one_line(folders, tiny_data, tmp_path):
    model, features = folders
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    (tmp_path / "single").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "single" / "a.png")
    (tmp_path / "file").touch()
    (tmp_path / "earlier" / "images").mkdir(parents=True)
    (tmp_path / "earlier" / "images" / "000059.png").touch()
    for name, size in (("a", 8), ("b", 9)):
        Image.new("RGB", (size, size)).save(tmp_path / "mixed" / f"{name}.png")
    cases = [
        (["--model", model, "--metrics", "fid"], "there is no metric 'fid'; known are frechet"),
        (["--model", model, "--metrics", "is"], "is needs a feature network with classes of its own"),
        (
            ["--model", model, "--encoders", features.removeprefix("encoder:")],
            "encoders are named, but no metric that reads captions: r_precision",
        ),
        (
            ["--model", model, "--metrics", "clip_score", "--encoders", model],
            "holds no encoders but a AttnGANForTextTo",
        ),
        (["--model", model, "--images", "1"], "images is 1; statistics need at least 2"),
        (["--model", model, "--data", tmp_path / "nowhere"], "nowhere"),
        (["--model", model, "--batch-size", "0"], "batch_size is 0; it must be at least 1"),
        (["--model", model, "--seed", "-1"], "seed is -1; it must be at least 0"),
        (
            ["--images-folder", tmp_path / "mixed", "--images", "9", "--save-images"],
            "images, save_images: only of what",
        ),
        (["--images-folder", tmp_path / "single"], "there is 1 picture to judge; statistics need at least 2"),
        (
            ["--model", model, "--columns", "label"],
            "columns: 'label' is not NAME=COLUMN with a NAME of image, captions",
        ),
        (["--model", model, "--columns", "captions=text"], "there is no column 'text' for captions"),
        (["--model", model, "--output", tmp_path / "file"], "output: .*file is a file; name a folder"),
        (
            ["--model", model, "--save-images", "--output", tmp_path / "earlier"],
            "images is there already; name another",
        ),
        (["--images-folder", tmp_path / "empty"], "there is no PNG file"),
        (["--images-folder", tmp_path / "mixed"], "must be square and of one size; found 8 x 8 .a.png., 9 x 9 .b.png."),
    ]
    for options, message in cases:
        arguments = ["--data", str(tiny_data), "--features", features, "--output", tmp_path / "out", *options]
        with pytest.raises(SystemExit, match=message):
            load_script().main([str(argument) for argument in arguments])
    assert not (tmp_path / "out").exists()
