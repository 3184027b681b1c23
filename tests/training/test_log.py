"""What a run writes down, and where it cannot."""

import pytest
from accelerate.utils import LoggerType
from conftest import full_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.conftest import encoder_recipe, entries

from t2i_supcon.training import train


def test_tensorboard_shows_what_the_log_holds(tiny_data, tmp_path):
    train(encoder_recipe(tiny_data), tmp_path / "run", tracker="tensorboard", max_steps=5)
    train(encoder_recipe(tiny_data), tmp_path / "run", tracker="tensorboard", resume=True)
    shown = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [image.step for image in shown.Images("samples")] == [4, 7]
    for name in ("words", "supcon", "rows_per_second", "eval/recall@1"):
        logged = [(e["step"], e[name]) for e in entries(tmp_path / "run") if name in e]
        assert [(e.step, e.value) for e in shown.Scalars(name)] == [
            (step, pytest.approx(value)) for step, value in logged
        ]


@pytest.mark.parametrize(
    ("name", "message"),
    [("wandb", "'wandb' is not installed: pip install wandb"), ("tensorbord", "'tensorbord' is unknown")],
)
def test_trackers_that_cannot_be_used_are_refused(tiny_data, tmp_path, monkeypatch, name, message):
    monkeypatch.setattr("t2i_supcon.training.log.get_available_trackers", lambda: [LoggerType.TENSORBOARD])
    with pytest.raises(ValueError, match=f"tracker {message}.*; installed: tensorboard"):
        train(encoder_recipe(tiny_data), tmp_path / "run", tracker=name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("room", "tracker", "named"),
    [(3, None, "recipe.yaml"), (1_500, None, "metrics.jsonl"), (1_500, "tensorboard", "(metrics.jsonl|tensorboard)")],
)
def test_a_full_disk_is_named_by_whatever_is_written(tiny_data, tmp_path, capfd, room, tracker, named):
    recipe = encoder_recipe(tiny_data, log_every=1, sample_every=99, eval_every=99, checkpoint_every=99)
    train(recipe, tmp_path / "first", max_steps=1)  # writes what is kept of the data
    capfd.readouterr()
    with (
        full_disk(room),
        pytest.raises(
            OSError, match=f"{named} could not be written: File too large; complete checkpoints are untouched"
        ),
    ):
        train(recipe, tmp_path / "run", tracker=tracker)
    assert "Traceback" not in capfd.readouterr().err
