"""Rows that a recipe asks for: own small data from its table to a drawn picture."""

import json
import sys
from pathlib import Path

import pytest
from conftest import CAPTIONS, TINY, TINY_IMAGE, TINY_TEXT, picture, write_dataset
from transformers import AutoTokenizer

from t2i_supcon.data import BrokenRowError, Columns, EvaluationRows, load_rows
from t2i_supcon.models import GANS
from t2i_supcon.pipeline import TextToImagePipeline
from t2i_supcon.training import train
from t2i_supcon.training.data import hold_out, load_splits
from t2i_supcon.training.recipe import parse_recipe

sys.path.append(str(Path(__file__).parents[2] / "scripts"))  # behind `evaluate`, the library
from prepare_data import main as prepare_data

DAMSM = {"text_config": TINY_TEXT, "image_config": TINY_IMAGE}


def encoder_recipe(data, **changed):
    values = {"phase": "encoders", "model": "damsm", "model_config": DAMSM, "data": data, "image_size": 16, "steps": 1}
    return parse_recipe(values | {"batch_size": 4, "loss_weights": {"words": 1, "sent": 1, "supcon": 0.5}} | changed)


def gan_recipe(data, encoders, **changed):
    config = {key: value for key, value in TINY["ssagan"].items()}
    values = {"phase": "gan", "model": "ssagan", "model_config": config, "data": data, "encoders": str(encoders)}
    values |= {"steps": 1, "batch_size": 4, "loss_weights": {"d_adv": 1, "g_adv": 1, "supcon": 0.1}}
    return parse_recipe(values | changed)


def test_own_small_data_trains_to_a_drawn_picture(tmp_path, caplog, capsys):
    """60 photos of 3 classes; every caption has a word of its own, one held-out row no other."""
    (tmp_path / "photos").mkdir()
    rows = ["File,What is seen,Kind,split"]
    for i in range(60):
        picture(i).save(tmp_path / "photos" / f"train {i}.png")
        caption = "xyzzy" if i == 7 else f"{CAPTIONS[i % 3].replace(',', '')} word{i}"
        rows.append(f"train {i}.png,{caption},class {i % 3},{'test' if i % 10 == 7 else 'train'}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    columns = ["--image-column", "File", "--caption-column", "What is seen", "--label-column", "Kind"]
    files = ["--images", f"{tmp_path}/photos", "--table", f"{tmp_path}/table.csv", "--output", f"{tmp_path}/data"]
    prepare_data(["folder", *files, *columns])
    data = {"name": str(tmp_path / "data")}
    for dry_run in (True, False):
        train(encoder_recipe(data), tmp_path / "encoders", dry_run=dry_run)
    assert "retrieval among 5 held-out images" in capsys.readouterr().out
    assert "row left out of evaluations, number 1 of 6: test-00000" in caplog.text and "no word of its 1" in caplog.text
    for dry_run in (True, False):
        train(gan_recipe(data, tmp_path / "encoders" / "model"), tmp_path / "gan", dry_run=dry_run)
    assert "among 5 (the same encoder" in capsys.readouterr().out
    model = GANS["ssagan"].composite.from_pretrained(tmp_path / "gan" / "model")
    draw = TextToImagePipeline(model=model, tokenizer=AutoTokenizer.from_pretrained(tmp_path / "gan" / "model"))
    (image,) = draw("a red circle word12", seed=0)
    assert image.size == (16, 16)


def test_a_held_out_share_is_the_same_for_every_recipe_and_trained_on_by_none(tmp_path, tiny_data):
    data = {"name": str(tiny_data), "held_out_share": 0.25, "test_split": "none such"}
    (rows, held_out), (_, again) = (load_splits(encoder_recipe(data, seed=seed)) for seed in (0, 1))
    assert (len(rows), len(held_out)) == (18, 6) and held_out["image_id"] == again["image_id"]
    assert sorted([*rows["image_id"], *held_out["image_id"]]) == sorted(f"train-{i}" for i in range(24))
    train(encoder_recipe(data), tmp_path / "run")
    for share, count in ((0.01, 2), (0.9, 22)):
        assert [len(part) for part in hold_out(load_rows(str(tiny_data), "train"), share)] == [24 - count, count]
    with pytest.raises(ValueError, match="data.held_out_share 0.99 of 24 pictures leaves none to train on"):
        hold_out(load_rows(str(tiny_data), "train"), 0.99)
    with pytest.raises(ValueError, match="data.held_out_share is 1.0; it must be positive and below 1"):
        encoder_recipe({**data, "held_out_share": 1})
    with pytest.raises(ValueError, match="data.held_out_share and data.streaming exclude each other"):
        encoder_recipe({**data, "streaming": True})


def test_rows_of_one_file_are_held_out_together(tmp_path):
    rows = []
    for i in range(12):
        picture(i).save(tmp_path / f"{i}.png")
        rows += [{"file_name": f"{i}.png", "text": CAPTIONS[k], "label": i % 3} for k in range(3)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    whole = load_rows(str(tmp_path), "train", columns=Columns(captions="text"))
    parts = hold_out(whole, 0.25)
    shown, held_out = ({row["image"]["path"] for row in part} for part in parts)
    assert [len(part) for part in parts] == [27, 9] and len(shown) == 9 and len(held_out) == 3
    assert not shown & held_out


def test_what_would_stop_a_run_stops_its_dry_run_with_a_remedy(tmp_path, tiny_data):
    write_dataset(tmp_path / "train only", [0, 1] * 4)
    write_dataset(tmp_path / "one", [0, 1] * 4)
    write_dataset(tmp_path / "one", [0], "test")
    write_dataset(tmp_path / "broken", [0, 1] * 4)
    write_dataset(tmp_path / "broken", [0] * 4, "test", images=[b"broken"] * 4)
    write_dataset(tmp_path / "empty", [0, 1] * 2, captions=[["one"], ["two"], ["..."], ["three"]])
    for name, error, message in (
        ("train only", FileNotFoundError, "no file test-.*; without rows of .*data.held_out_share=0.1"),
        ("one", ValueError, "split 'test': 1 row can be evaluated, and 2 are needed; name another data.test_split"),
        ("broken", BrokenRowError, "test-00000-of-00001.parquet, row 0: test-0: the image .*data.max_broken_share"),
        ("empty", BrokenRowError, r"train-00000-of-00001.parquet, row 2: train-2: the caption '...' .*; mend the row"),
    ):
        with pytest.raises(error, match=message):
            train(encoder_recipe({"name": str(tmp_path / name)}), tmp_path / "run", dry_run=True)
    train(encoder_recipe({"name": str(tiny_data)}), tmp_path / "phase1")
    words = [["red"]] * 5 + [["zebra", "zebu"]]
    write_dataset(tmp_path / "other", [0] * 6, captions=words)
    write_dataset(tmp_path / "other", [0] * 4, "test")
    recipe = gan_recipe({"name": str(tmp_path / "other")}, tmp_path / "phase1" / "model")
    with pytest.raises(BrokenRowError, match="row 5: train-5: no word of its 2 captions, such as 'zebra', is in the"):
        train(recipe, tmp_path / "run", dry_run=True)


def test_rows_of_data_without_shards_are_named_by_their_split(tiny_data, tokenizer):
    rows = load_rows(str(tiny_data), "test[50:]").map(lambda row: {"captions": ["zebra"]})
    with pytest.raises(BrokenRowError, match=r"split 'test\[50:\]', row 0 \(test-50\): no word of its 1 captions"):
        EvaluationRows(rows, tokenizer, 8, split="test[50:]")
