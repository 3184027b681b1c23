"""What a resumed run takes from the recipe, what it takes from the checkpoint, and what it
refuses."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import TINY_IMAGE, TINY_TEXT, encoded, picture, write_dataset
from training.conftest import assert_same_run, encoder_recipe, entries, gan_recipe, newest

from t2i_supcon.files import only_user
from t2i_supcon.models import DAMSMModel
from t2i_supcon.training import EncoderPhase, train
from t2i_supcon.training.checkpoint import FORMAT, list_checkpoints


@pytest.fixture(scope="module")
def three_steps(shared_data, tmp_path_factory):
    train(encoder_recipe(shared_data), folder := tmp_path_factory.mktemp("three") / "run", max_steps=3)
    return folder


@pytest.fixture
def stopped(three_steps, tmp_path):
    """A run of phase 1 after three of its seven steps."""
    return shutil.copytree(three_steps, tmp_path / "run")


def test_rates_and_betas_are_those_of_the_new_recipe(tiny_data, stopped):
    before = newest(stopped)["phase"]["model"]
    changed = encoder_recipe(tiny_data, learning_rate=1e-12, betas=[0.25, 0.75], lr_schedule="constant")
    train(changed, stopped, resume=True)
    after = newest(stopped)["phase"]
    (group,) = after["optimizer"]["param_groups"]
    assert group["lr"] == 1e-12 and tuple(group["betas"]) == (0.25, 0.75)
    weights = [name for name in before if name.endswith("weight") and before[name].dim() > 1]
    assert all((before[name] - after["model"][name]).abs().max() < 1e-9 for name in weights)


def test_weights_batch_size_and_intervals_take_effect(tiny_data, stopped):
    changed = encoder_recipe(
        tiny_data, loss_weights={"sent": 1}, batch_size=4, gradient_accumulation=2, log_every=1, steps=5
    )
    train(changed, stopped, resume=True)
    logged = [entry for entry in entries(stopped) if entry["step"] > 3 and "sent" in entry]
    assert [entry["step"] for entry in logged] == [4, 5] and "words" not in logged[-1]
    assert newest(stopped)["data"][0]["rows"] == 3 * 8 + 2 * 2 * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed was 0 there and is 1 here"),
        ({"sampling": "independent"}, "sampling was pairs there and is independent here"),
        ({"image_size": 20}, "image_size was 16 there and is 20 here"),
        ({"positives": "any"}, "positives was label there and is any here"),
        (
            {"model_config": {"text_config": TINY_TEXT, "image_config": {**TINY_IMAGE, "align_corners": True}}},
            "model_config.image_config.align_corners was False there and is True here",
        ),
        (
            {"model_config": {"text_config": {**TINY_TEXT, "embedding_dim": 9}, "image_config": TINY_IMAGE}},
            r"model.text_encoder.embedding.weight has shape \(\d+, 7\) there and \(\d+, 9\) here",
        ),
    ],
)
def test_what_cannot_change_is_refused_by_name(changes, message, tiny_data, stopped):
    kept = sorted(path.name for path in (stopped / "checkpoints").iterdir())
    with pytest.raises(ValueError, match=message):
        train(encoder_recipe(tiny_data, **changes), stopped, resume=True)
    assert sorted(path.name for path in (stopped / "checkpoints").iterdir()) == kept


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", b"{half\n", "metrics.jsonl is damaged .*: mend that line, or remove the file"),
        ("metrics.jsonl", b"[1]\n", "metrics.jsonl is damaged .a line names no step.: mend"),
        ("checkpoints/step-00000003/state.pt", None, "step-00000003 is no checkpoint of a run: it lacks recipe"),
    ],
)
def test_foreign_files_of_a_run_are_named(file, content, message, tiny_data, stopped):
    if content is None:
        torch.save({"format": FORMAT, "weights": torch.ones(2)}, stopped / file)
    else:
        (stopped / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        train(encoder_recipe(tiny_data), stopped, resume=True)


def test_the_best_model_is_chosen_anew_where_its_value_means_something_else(tiny_data, tmp_path):
    train(encoder_recipe(tiny_data, eval_every=1), tmp_path / "run", max_steps=3)
    before = newest(tmp_path / "run")["best"]
    assert before[0] <= 3
    for changes in ({"best_metric": "recall@10"}, {"eval_rows": 50}):
        run = tmp_path / next(iter(changes))
        shutil.copytree(tmp_path / "run", run)
        train(encoder_recipe(tiny_data, eval_every=1, **changes), run, resume=True, max_steps=1)
        step, value = newest(run)["best"]
        logged = {entry["step"]: entry for entry in entries(run) if "eval/recall@1" in entry}
        assert step == 4 and value == logged[4][f"eval/{changes.get('best_metric', 'recall@1')}"]


def test_other_data_of_equal_length_is_refused_and_moved_data_is_not(tiny_data, stopped, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_data, other)
    write_dataset(other, [i % 3 for i in range(24)], images=[encoded(picture(i + 1)) for i in range(24)])
    with pytest.raises(ValueError, match=r"data was \d+ rows, \w+ there and is \d+ rows, \w+ here"):
        train(encoder_recipe(other), stopped, resume=True)
    moved = tmp_path / "moved"
    shutil.copytree(tiny_data, moved)
    train(encoder_recipe(moved), stopped, resume=True)
    assert newest(stopped)["step"] == 7


def test_other_encoders_of_equal_size_are_refused_and_moved_ones_are_not(tiny_data, phase1, tmp_path, caplog):
    run, other, moved = tmp_path / "gan", tmp_path / "other", tmp_path / "moved"
    train(gan_recipe(tiny_data, phase1 / "model"), run, max_steps=3)
    shutil.copytree(phase1 / "model", other)
    shutil.copytree(phase1 / "model", moved)
    encoders = DAMSMModel.from_pretrained(other)
    with torch.no_grad():
        encoders.text_encoder.embedding.weight[3] += 0.1
    encoders.save_pretrained(other)
    with pytest.raises(
        ValueError, match="encoders .*other.* have another text_encoder than those it was trained around"
    ):
        train(gan_recipe(tiny_data, other), run, resume=True)
    shutil.copytree(phase1 / "model", other, dirs_exist_ok=True)
    config = json.loads((other / "config.json").read_text())
    config["image_config"]["align_corners"] = True  # which its tensors do not tell
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="encoders.image_config.align_corners was False there and is True here"):
        train(gan_recipe(tiny_data, other), run, resume=True)
    train(gan_recipe(tiny_data, moved), run, resume=True)
    assert newest(run)["step"] == 7 and "and the recipe's data is" not in caplog.text
    facts = json.loads((moved / "training.json").read_text())
    (moved / "training.json").write_text(json.dumps(facts | {"data": {"name": "data/birds"}}))
    train(gan_recipe(tiny_data, moved, steps=8), run, resume=True)
    assert f"encoders {moved} were trained on 'data/birds', and the recipe's data is" in caplog.text


def test_the_average_of_the_generator_is_not_dropped(tiny_data, phase1, tmp_path):
    train(gan_recipe(tiny_data, phase1 / "model"), tmp_path / "run", max_steps=1)
    with pytest.raises(ValueError, match="it averaged the generator, which ema_decay=null would drop"):
        train(gan_recipe(tiny_data, phase1 / "model", ema_decay=None), tmp_path / "run", resume=True)


def test_killed_in_its_last_evaluation_it_ends_like_one_never_stopped(tiny_data, phase1, tmp_path, monkeypatch):
    class Killed(BaseException):
        """What no handler of the program sees."""

    def killed(phase):
        if phase.step == 7:
            raise Killed
        return evaluate(phase)

    recipe = encoder_recipe(tiny_data)
    evaluate = EncoderPhase.evaluate
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(EncoderPhase, "evaluate", killed)
        train(recipe, tmp_path / "run")
    (tmp_path / "run" / ".partial-metrics.jsonl").write_text("half")  # as a kill may leave them
    (list_checkpoints(tmp_path / "run" / "checkpoints")[0] / ".partial-state.pt").write_bytes(b"half")
    train(recipe, tmp_path / "run", resume=True)
    assert_same_run(phase1, tmp_path / "run")
    assert not list((tmp_path / "run").rglob(".partial-*"))


def test_a_folder_without_checkpoints_can_be_used_again(tiny_data, tmp_path, monkeypatch):
    def failing(phase, *batches):
        raise FloatingPointError("step 1: words is nan; the update was not made")

    with monkeypatch.context() as patch, pytest.raises(FloatingPointError):
        patch.setattr("t2i_supcon.training.EncoderPhase.train_step", failing)
        train(encoder_recipe(tiny_data), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").exists()
    train(replace(encoder_recipe(tiny_data), steps=2), tmp_path / "run")
    assert [entry["step"] for entry in entries(tmp_path / "run")] == [0, 2, 2]


def test_a_second_run_in_the_same_folder_is_refused(tiny_data, tmp_path, monkeypatch):
    recipe = replace(encoder_recipe(tiny_data), steps=2)
    monkeypatch.setattr("t2i_supcon.training.loop.only_user", partial(only_user, patience=0))
    with only_user(tmp_path / "run"), pytest.raises(FileExistsError, match="another run is writing into .*run"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    train(recipe, tmp_path / "run")


@pytest.mark.parametrize("name", ["model", "best"])
def test_a_model_of_no_run_is_never_replaced(name, tiny_data, tmp_path):
    (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / name / "mine").write_text("precious")
    for resume in (False, True):
        with pytest.raises(FileExistsError, match=f"run/{name} is of no run .*another --output-dir"):
            train(encoder_recipe(tiny_data), tmp_path / "run", resume=resume)
    assert (tmp_path / "run" / name / "mine").read_text() == "precious"
