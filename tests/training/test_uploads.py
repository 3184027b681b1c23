"""Models on their way to the Hub while training goes on."""

import importlib
import threading

import pytest
from training.conftest import encoder_recipe

from t2i_supcon.conversion import load_encoders
from t2i_supcon.training import train
from t2i_supcon.training.uploads import Uploads


def saving(text):
    def save(folder):
        folder.mkdir()
        (folder / "config.json").write_text('{"architectures": ["DAMSMModel"]}')
        (folder / "model.safetensors").write_text(text)

    return save


def weights(repo, revision="main"):
    return repo.files(revision)["model.safetensors"].decode()


@pytest.fixture
def uploads(hub, tmp_path):
    return Uploads("me/run", tmp_path)


def wait(uploads):
    uploads._under_way[1].exception()


def test_checkpoints_and_the_finished_model_are_tagged_commits(hub, uploads, tmp_path):
    for step in (2, 4):
        uploads.checkpoint(step, saving(f"step {step}"))
        wait(uploads)
    saving("step 6")(tmp_path / "model")
    uploads.finish(6, tmp_path / "model")
    repo = hub.repos["model", "me/run"]
    assert list(repo.tags) == ["step-2", "step-4", "step-6"] and weights(repo) == "step 6"
    assert all(weights(repo, tag) == tag.replace("-", " ") for tag in repo.tags)
    assert list(repo.titles.values()) == ["initial commit", "Step 2", "Step 4", "Step 6"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # no snapshot stays


def test_a_failure_is_logged_and_made_up_for_at_the_next_one(hub, uploads, tmp_path, caplog):
    with hub.failing("POST .*/commit/", 500):
        uploads.checkpoint(2, saving("step 2"))
        wait(uploads)
    assert not caplog.records
    uploads.checkpoint(4, saving("step 4"))
    wait(uploads)
    (record,) = caplog.records
    assert record.getMessage().startswith("step 2 was not published (127.0.0.1")
    assert "has a fault of its own at 'me/run' (500" in record.getMessage()
    repo = hub.repos["model", "me/run"]
    assert list(repo.tags) == ["step-4"] and weights(repo) == "step 4"
    assert not list(tmp_path.iterdir())


def test_training_does_not_wait_for_an_upload(hub, uploads, tmp_path, caplog):
    held = threading.Event()
    with hub.failing("PUT /lfs", wait=held):
        uploads.checkpoint(2, saving("step 2"))
        uploads.checkpoint(4, saving("step 4"))  # comes back at once, though step 2 is held
        assert caplog.records[-1].getMessage() == "step 4 is not published: step 2 is still on its way to me/run"
        held.set()
        saving("step 6")(tmp_path / "model")
        uploads.finish(6, tmp_path / "model")
    assert list(hub.repos["model", "me/run"].tags) == ["step-2", "step-6"]


def test_what_is_on_its_way_is_as_it_was_when_it_was_saved(hub, uploads, tmp_path):
    held = threading.Event()
    with hub.failing("POST /api/models/me/run/preupload", wait=held):
        uploads.checkpoint(2, saving("step 2"))
        saving("later")(tmp_path / "model")
        held.set()
        wait(uploads)
    assert weights(hub.repos["model", "me/run"]) == "step 2"


def test_a_step_that_is_published_again_takes_its_tag_along(hub, tmp_path):
    for text in ("first", "resumed"):
        saving(text)(tmp_path / text)
        Uploads("me/run", tmp_path).finish(2, tmp_path / text)
    assert weights(hub.repos["model", "me/run"], "step-2") == "resumed"


def test_a_finished_model_that_cannot_be_published_says_how_to_do_it_later(hub, uploads, tmp_path):
    saving("step 6")(tmp_path / "model")
    with hub.failing("POST .*/commit/", 429), pytest.raises(OSError, match="scripts/push_to_hub.py .*model me/run$"):
        uploads.finish(6, tmp_path / "model")
    assert not hub.repos["model", "me/run"].tags


def test_a_repository_that_cannot_be_written_is_refused_before_training(hub, tiny_data, tmp_path):
    with pytest.raises(OSError, match="refuses access to 'other/run'"):
        train(encoder_recipe(tiny_data), tmp_path / "run", push_to_hub="other/run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_run_publishes_every_checkpoint_and_what_it_made(hub, tiny_data, tmp_path):
    recipe = encoder_recipe(tiny_data, steps=5, checkpoint_every=2, eval_every=5, sample_every=5)
    waited = importlib.import_module("t2i_supcon.training.uploads").Uploads.checkpoint

    def one_by_one(self, step, save):
        waited(self, step, save)
        wait(self)

    with pytest.MonkeyPatch.context() as patch:  # so that none is left out, however fast the training
        patch.setattr("t2i_supcon.training.uploads.Uploads.checkpoint", one_by_one)
        train(recipe, tmp_path / "run", push_to_hub="me/run")
    repo = hub.repos["model", "me/run"]
    assert list(repo.tags) == ["step-2", "step-4", "step-5"]
    assert {"README.md", "recipe.yaml", "training.json", "tokenizer.json", "samples/01.png"} <= set(
        repo.files("step-2")
    )
    assert load_encoders("me/run@step-2", 4)[0].config.model_type == "damsm"
    assert len({repo.files(tag)["model.safetensors"] for tag in repo.tags}) == 3
    finished = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    assert repo.files()["model.safetensors"] == finished
    assert not list((tmp_path / "run").glob(".partial*"))
