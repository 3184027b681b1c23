"""What a dry run says of a run, against that run."""

from conftest import TINY, TINY_IMAGE, TINY_TEXT
from training.conftest import encoder_recipe, gan_recipe, newest

from t2i_supcon.models import DAMSMConfig, DAMSMModel
from t2i_supcon.training import train


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
