"""What a dry run says of a run, against that run."""

import shutil

import pytest
from conftest import TINY, TINY_IMAGE, TINY_TEXT, encoded, picture, write_dataset
from training.conftest import encoder_recipe, gan_recipe, newest

from t2i_supcon.data import BrokenRowError
from t2i_supcon.models import DAMSMConfig, DAMSMModel
from t2i_supcon.training import preview, train


def test_a_dry_run_shows_the_plan_and_trains_nothing(tiny_data, tmp_path, capsys):
    train(encoder_recipe(tiny_data, steps=6, batch_size=4, gradient_accumulation=2), tmp_path / "run", dry_run=True)
    printed = capsys.readouterr().out
    assert "precision: float32 on cpu" in printed
    model = DAMSMModel(DAMSMConfig(text_config={**TINY_TEXT, "vocab_size": 14}, image_config=TINY_IMAGE))
    assert f"{sum(p.numel() for p in model.image_encoder.parameters()):,} parameters" in printed
    assert "6 steps of 8 rows (pairs): 2.0 epochs of 24 rows" in printed
    assert "activations not included" in printed
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["first-batch.png"]


def test_a_dry_run_counts_the_memory_that_training_holds(tiny_data, phase1, tmp_path, capsys):
    recipe = gan_recipe(tiny_data, phase1 / "model", steps=1, model_config={**TINY["ssagan"], "generator_channels": 32})
    capsys.readouterr()
    train(recipe, tmp_path / "run", dry_run=True)
    printed = capsys.readouterr().out
    train(recipe, tmp_path / "run")
    state = newest(tmp_path / "run")["phase"]
    encoders = DAMSMModel.from_pretrained(phase1 / "model")
    frozen = [*encoders.text_encoder.state_dict().values(), *encoders.image_encoder.state_dict().values()]
    weights = sum(x.nbytes for x in frozen) + sum(
        x.nbytes for module in state["modules"].values() for x in module.values()
    )
    moments = sum(
        x.nbytes for adam in state["optimizers"] for own in adam["state"].values() for x in own.values() if x.ndim
    )
    held = (
        f"weights {weights / 2**20:,.1f} + gradients {moments / 2 / 2**20:,.1f} + Adam's moments {moments / 2**20:,.1f}"
    )
    assert moments > 2 * 2**20
    assert f"memory of each process: {(weights + 1.5 * moments) / 2**20:,.1f} MiB = {held}" in printed


@pytest.mark.parametrize("share", [0, 0.1])
def test_a_broken_training_image_stops_the_dry_run_as_it_would_the_run(tiny_data, tmp_path, capsys, share):
    images = [encoded(picture(i)) for i in range(24)]
    images[17] = images[17][: len(images[17]) // 2]
    broken = shutil.copytree(tiny_data, tmp_path / "data")
    write_dataset(broken, [i % 3 for i in range(24)], images=images)
    data = {"name": str(broken), "max_broken_share": share}
    recipe = encoder_recipe(tiny_data, data=data, steps=6, batch_size=4)
    if share:
        train(recipe, tmp_path / "run", dry_run=True)  # the row is allowed, and rows are read when they are needed
        assert "training rows" not in capsys.readouterr().out
        return
    message = r"train-00000-of-00001.parquet, row 17: train-17: the image .*; mend the row .* data.max_broken_share"
    said = []
    for dry_run in (True, False):
        with pytest.raises(BrokenRowError, match=message) as error:
            train(recipe, tmp_path / "run", dry_run=dry_run)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_a_dry_run_says_of_how_many_training_rows_it_knows(tiny_data, tmp_path, capsys, monkeypatch):
    recipe = encoder_recipe(tiny_data, steps=1, batch_size=4)
    for most, expected in ((24, "all 24 can be read\n"), (7, "7 of 24, evenly spaced, can be read; a broken one")):
        monkeypatch.setattr(preview, "READ_ROWS", most)
        train(recipe, tmp_path / "run", dry_run=True)
        assert f"training rows: {expected}" in capsys.readouterr().out
