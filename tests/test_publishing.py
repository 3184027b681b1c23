"""What is published of models, runs and data, over HTTP."""

import importlib
import json

import pytest
import torch
from conftest import tiny_config, write_dataset
from huggingface_hub import snapshot_download

from t2i_supcon.cards import MARK
from t2i_supcon.conversion import load_encoders
from t2i_supcon.hub import folder_files
from t2i_supcon.models import GANS, DAMSMModel, SSAGANForTextToImage, SSAGANGenerator
from t2i_supcon.models.weights import weights_hash
from t2i_supcon.pipeline import load_pipeline
from t2i_supcon.publishing import publish


@pytest.fixture
def script():
    return importlib.import_module("scripts.push_to_hub").main


def save_run(name, tokenizer, folder):
    """A run with its model, its samples and an evaluation of it."""
    config, model = tiny_config(name, len(tokenizer)), folder / "model"
    composite = GANS[name].composite(config)
    composite.save_pretrained(model)
    tokenizer.save_pretrained(model)
    GANS[name].discriminator(config).save_pretrained(model / "discriminator")
    (model / "samples").mkdir()
    (model / "samples" / "1.png").write_bytes(b"picture")
    evaluation = folder / "evaluation"
    evaluation.mkdir()
    protocol = {"data": "emoji", "split": "test", "features": {"network": "imagenet-lite0"}}
    found = {"values": {"kid": 0.1}, "protocol": protocol, "subject": {"weights": weights_hash(composite.eval())}}
    (evaluation / "evaluation.json").write_text(json.dumps(found))
    (evaluation / "evaluation.md").write_text("| metric | judged |")
    return folder


def published(hub, repository, kind="model"):
    return hub.repos[kind, repository].files()


COMPLETE = {
    "README.md",
    "config.json",
    "discriminator/config.json",
    "discriminator/model.safetensors",
    "evaluation.json",
    "evaluation.md",
    "model.safetensors",
    "samples/1.png",
    "tokenizer.json",
    "tokenizer_config.json",
}


def test_a_run_of_any_gan_is_published_complete_in_one_commit(hub, gan_name, tokenizer, tmp_path, script, capsys):
    run = save_run(gan_name, tokenizer, tmp_path / "run")
    script([str(run), "me/gan", "--private", "--tag", "v1"])
    assert set(published(hub, "me/gan")) == COMPLETE
    repo = hub.repos["model", "me/gan"]
    assert repo.private and repo.tags == {"v1": repo.branches["main"]}
    assert len(repo.commits) == 2  # that of a new repository, and this one
    assert capsys.readouterr().out == f"me/gan at {repo.tags['v1']}\n"
    for name, file in folder_files(run / "model").items():
        assert published(hub, "me/gan")[name] == file.read_bytes()
    drawn = [load_pipeline(where)("a red star", seed=0, output_type="pt") for where in ("me/gan@v1", run / "model")]
    assert torch.equal(*drawn)


def test_encoders_are_published(hub, encoders, tokenizer, tmp_path):
    encoders.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    publish(tmp_path / "model", "me/damsm")
    there, _ = load_encoders("me/damsm", 6)
    assert weights_hash(there) == weights_hash(encoders)
    assert "feature-extraction" in published(hub, "me/damsm")["README.md"].decode()
    DAMSMModel.from_pretrained("me/damsm").push_to_hub("me/again")
    assert published(hub, "me/again").keys() == published(hub, "me/damsm").keys()


def test_an_evaluation_of_other_weights_is_left_out(hub, tokenizer, tmp_path, caplog):
    run = save_run("ssagan", tokenizer, tmp_path / "run")
    GANS["ssagan"].composite(tiny_config("ssagan", len(tokenizer))).save_pretrained(run / "model")
    publish(run, "me/gan")
    assert set(published(hub, "me/gan")) == COMPLETE - {"evaluation.json", "evaluation.md"}
    assert "is of other weights than" in caplog.text


def test_a_card_of_ones_own_stays(hub, tokenizer, tmp_path):
    run = save_run("ssagan", tokenizer, tmp_path / "run")
    (run / "model" / "README.md").write_text(f"---\n---\n{MARK}\nas before")
    publish(run, "me/gan")
    assert "as before" not in published(hub, "me/gan")["README.md"].decode()
    (run / "model" / "README.md").write_text("---\nlicense: mit\n---\n# mine")
    publish(run, "me/gan")
    assert published(hub, "me/gan")["README.md"] == b"---\nlicense: mit\n---\n# mine"


def test_models_and_pipelines_publish_all_that_they_were_loaded_from(hub, tokenizer, tmp_path):
    run = save_run("ssagan", tokenizer, tmp_path / "run")
    publish(run, "me/gan")
    expected = published(hub, "me/gan")
    for number, loaded in enumerate((SSAGANForTextToImage.from_pretrained("me/gan"), load_pipeline("me/gan"))):
        loaded.push_to_hub(f"me/copy{number}", tag="v1")
        files = published(hub, f"me/copy{number}")
        assert files.keys() == expected.keys()
        same = {name for name in files if files[name] == expected[name]}
        # the card has the new name in it, and a part's own type is written down once it was loaded
        assert expected.keys() - same <= {"README.md", "config.json", "tokenizer_config.json"}
        assert len(hub.repos["model", f"me/copy{number}"].commits) == 2


def test_changed_weights_go_without_what_was_said_of_the_old_ones(hub, tokenizer, tmp_path):
    run = save_run("ssagan", tokenizer, tmp_path / "run")
    model = SSAGANForTextToImage.from_pretrained(run / "model")
    with torch.no_grad():
        next(model.generator.parameters()).add_(1)
    model.push_to_hub("me/changed")
    weights = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(published(hub, "me/changed")) == weights
    SSAGANGenerator.from_pretrained(run / "model").push_to_hub("me/part")
    assert set(published(hub, "me/part")) == {"README.md", "config.json", "model.safetensors"}
    model = SSAGANForTextToImage(model.config.__class__.from_pretrained(run / "model"))
    model.config.name_or_path = ""
    model.push_to_hub("me/fresh", tokenizer=tokenizer)
    assert set(published(hub, "me/fresh")) == weights


def test_what_cannot_be_published_is_one_line(hub, tokenizer, tmp_path, script):
    (tmp_path / "empty").mkdir()
    run = save_run("ssagan", tokenizer, tmp_path / "run")
    damaged = save_run("ssagan", tokenizer, tmp_path / "damaged")
    (damaged / "model" / "model.safetensors").write_bytes(b"")
    for arguments, message in (
        ((tmp_path / "empty", "me/gan"), "can not be published: it is no saved model .config.json., no run"),
        ((tmp_path / "none", "me/gan"), "can not be published"),
        ((damaged, "me/gan"), "it is no safetensors file, or a damaged one"),
        ((run, "other/gan"), "refuses access to 'other/gan'"),
        ((run, "a b"), "'a b' is no name of a repository"),
    ):
        with pytest.raises(SystemExit, match=f"^error: .*{message}") as stop:
            script([str(argument) for argument in arguments])
        assert "\n" not in stop.value.code
    assert not hub.repos


def test_prepared_data_is_published_as_a_dataset(hub, tmp_path):
    data = write_dataset(tmp_path / "data", [0, 1, 2])
    (data / "README.md").write_text("---\nlicense: other\n---\n")
    shards = sorted(path.name for path in data.glob("*.parquet"))
    (data / "manifest.json").write_text(json.dumps({"options": {}, "rows": {"train": 3}, "shards": shards}))
    (data / "notes.txt").write_text("not published")
    publish(data, "me/data", tag="v1")
    assert set(published(hub, "me/data", "dataset")) == {*shards, "README.md", "manifest.json"}
    there = snapshot_download("me/data", repo_type="dataset", revision="v1")
    assert (data / shards[0]).read_bytes() == open(f"{there}/{shards[0]}", "rb").read()
