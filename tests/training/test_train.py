"""From recipe and data to a saved model: what data is trained on, what stops it, and in which
precision."""

import json
from dataclasses import replace

import pytest
from accelerate.state import AcceleratorState
from conftest import CAPTIONS, encoded, picture, write_dataset
from training.conftest import encoder_recipe, entries, gan_recipe

from t2i_supcon.data import BrokenRowError, IndexedRows
from t2i_supcon.training import train
from t2i_supcon.training.checkpoint import list_checkpoints
from t2i_supcon.training.train import choose_precision


def test_the_baseline_runs_the_same_code_without_pairs(tiny_data, tmp_path):
    train(
        encoder_recipe(tiny_data, sampling="independent", loss_weights={"words": 1, "sent": 1}, steps=2),
        tmp_path / "run",
    )
    assert not any("supcon" in e for e in entries(tmp_path / "run"))


@pytest.mark.parametrize(
    ("asked", "launched", "gpu", "chosen"),
    [
        ("auto", None, False, "no"),
        ("auto", "no", True, "bf16"),  # the launcher says "no" by itself
        ("auto", "fp16", True, "fp16"),
        ("no", "bf16", True, "no"),
        ("fp16", "no", True, "fp16"),
    ],
)
def test_bf16_is_the_default_on_a_gpu(monkeypatch, asked, launched, gpu, chosen):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: gpu and not including_emulation)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launched is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    assert choose_precision(asked) == chosen
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert choose_precision("auto") == (launched if launched == "fp16" or launched == "bf16" else "no")


def test_fp16_is_refused_on_a_cpu_which_would_train_in_float32(tiny_data, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match="fp16 is for GPUs: .* --mixed-precision bf16 or no"):
        train(encoder_recipe(tiny_data), tmp_path / "run", precision="fp16")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_with_columns_of_its_own_trains_without_preparation(tmp_path, streaming):
    for split, n in (("train", 24), ("test", 100)):
        (tmp_path / "own" / split).mkdir(parents=True)
        with open(tmp_path / "own" / split / "metadata.jsonl", "w") as table:
            for i in range(n):
                picture(i).save(tmp_path / "own" / split / f"{i}.png")
                table.write(
                    json.dumps({"file_name": f"{i}.png", "text": CAPTIONS[i % 4], "kinds": ["abc"[i % 3], "d"]}) + "\n"
                )
    data = {
        "name": str(tmp_path / "own"),
        "caption_column": "text",
        "label_column": None,
        "labels_column": "kinds",
        "streaming": streaming,
    }
    recipe = encoder_recipe("", data=data, positives="jaccard", steps=4, eval_rows=100)
    train(recipe, tmp_path / "run")
    assert entries(tmp_path / "run")[-2]["supcon"] > 0
    resumed = replace(recipe, steps=5)
    train(resumed, tmp_path / "run", resume=True)
    assert entries(tmp_path / "run")[-1]["step"] == 5


def test_what_needs_labels_is_refused_and_the_baseline_that_is_named_trains(tmp_path, tiny_data):
    unlabelled = {"name": str(tiny_data), "label_column": None, "labels_column": None}
    recipe = encoder_recipe(tiny_data, data=unlabelled, steps=1)
    with pytest.raises(
        ValueError,
        match="has no labels, which pairs and supcon need: name their column in data.label_column, or train a "
        "baseline without them: sampling=independent loss_weights.supcon=null$",
    ):
        train(recipe, tmp_path / "run")
    with pytest.raises(ValueError, match="which supcon need.*without them: loss_weights.supcon=null$"):
        train(replace(recipe, sampling="independent"), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    train(replace(recipe, sampling="independent", loss_weights={"words": 1.0, "sent": 1.0}), tmp_path / "run")
    assert (tmp_path / "run" / "model").is_dir()


def test_a_broken_image_stops_with_its_name_and_keeps_the_checkpoint(tmp_path):
    recipe = encoder_recipe(
        tmp_path / "bad", steps=9, batch_size=4, checkpoint_every=1, sampling="independent", loss_weights={"sent": 1}
    )
    order = [item.row for _, item in IndexedRows([0] * 8, recipe.seed, pairs=False).epoch(0)]
    broken = order[5]  # of the second step
    images = [b"broken" if row == broken else encoded(picture(row)) for row in range(8)]
    write_dataset(tmp_path / "bad", [0] * 8, images=images)
    write_dataset(tmp_path / "bad", [0] * 100, "test")
    message = f"train-00000-of-00001.parquet, row {broken}: train-{broken}: the image cannot be decoded"
    with pytest.raises(BrokenRowError, match=message):
        train(recipe, tmp_path / "run")
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000001"]


def test_broken_rows_within_the_share_stop_neither_training_nor_evaluations(tmp_path):
    """A training and a held-out row with a broken image, and a held-out row of unknown words."""
    for split, n in (("train", 24), ("test", 110)):
        images, captions = [encoded(picture(i)) for i in range(n)], [[CAPTIONS[i % 4]] for i in range(n)]
        images[3] = images[3][:60]
        if split == "test":
            captions[9] = ["zebra"]
        write_dataset(tmp_path / "data", [i % 3 for i in range(n)], split, captions, images)
    data = {"name": str(tmp_path / "data"), "max_broken_share": 0.1}
    train(encoder_recipe("", data=data, steps=1), tmp_path / "phase1")
    recipe = gan_recipe(tmp_path / "data", tmp_path / "phase1" / "model", steps=1)
    allowed = replace(recipe.data, max_broken_share=0.1, streaming=True)
    watched = replace(recipe.evaluation, features=f"encoder:{tmp_path / 'phase1' / 'model'}", metrics=["frechet"])
    train(replace(recipe, data=allowed, evaluation=watched), tmp_path / "phase2")
    assert "eval/frechet" in entries(tmp_path / "phase2")[-1]
    for folder in ("phase1", "phase2"):
        assert {"eval/recall@1", "step"} <= entries(tmp_path / folder)[-1].keys()
    with pytest.raises(
        BrokenRowError, match=r"test-00000-of-00001.parquet, row 3: test-3: the image cannot be decoded"
    ):
        train(encoder_recipe(tmp_path / "data", steps=1), tmp_path / "strict")


def test_a_number_of_steps_below_one_is_refused(tiny_data, tmp_path):
    with pytest.raises(ValueError, match="max_steps is 0; it must be at least 1"):
        train(encoder_recipe(tiny_data), tmp_path / "run", max_steps=0)
    assert not (tmp_path / "run").exists()
