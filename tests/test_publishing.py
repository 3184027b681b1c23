"""What is published of models, runs and data, over HTTP."""

import importlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import CAPTIONS, encoded, picture, tiny_config
from huggingface_hub import DatasetCard

from t2i_supcon.cards import MARK
from t2i_supcon.conversion import load_encoders
from t2i_supcon.data import Source, load_rows, make_row, prepare
from t2i_supcon.hub import folder_files
from t2i_supcon.models import GANS, DAMSMModel, SSAGANForTextToImage, SSAGANGenerator
from t2i_supcon.models.weights import weights_hash
from t2i_supcon.pipeline import load_pipeline
from t2i_supcon.publishing import publish, publish_space

SPACE = Path(__file__).parents[1] / "spaces" / "text_to_image"


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


def test_a_suite_takes_no_tag(script, tmp_path):
    with pytest.raises(SystemExit) as stop:
        script([str(tmp_path), "me", "--suite", "emoji", "--tag", "v1"])
    said = "error: --tag: a suite's repositories have a tag such as seed-0 for each seed already; leave --tag out"
    assert stop.value.code == said


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


def test_what_lies_in_other_folders_of_a_repository_stays(hub, tokenizer, tmp_path):
    publish(save_run("ssagan", tokenizer, tmp_path / "run"), "me/gan")
    others = {
        "encoders/model.safetensors": b"1",
        "mine/notes.safetensors": b"2",
        "models/notes.safetensors": b"4",
        "model-00001-of-00002.safetensors": b"3",
    }
    hub.repos["model", "me/gan"].commit(published(hub, "me/gan") | others, "more", "main")
    publish(tmp_path / "run", "me/gan")
    left = published(hub, "me/gan").keys() & others.keys()
    assert left == others.keys() - {"model-00001-of-00002.safetensors"}  # which belongs to the model before


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


def test_a_revision_is_published_with_what_lay_beside_it(hub, tokenizer, tmp_path):
    publish(save_run("ssagan", tokenizer, tmp_path / "first"), "me/gan", tag="first")
    publish(save_run("ssagan", tokenizer, tmp_path / "second"), "me/gan")
    expected = published(hub, "me/gan")
    for load in (load_pipeline, lambda name: SSAGANForTextToImage.from_pretrained("me/gan", revision="first")):
        load("me/gan@first").push_to_hub("me/copy")
        copy = published(hub, "me/copy")
        assert copy.keys() == expected.keys()
        weights = (tmp_path / "first" / "model" / "discriminator" / "model.safetensors").read_bytes()
        assert copy["discriminator/model.safetensors"] == weights != expected["discriminator/model.safetensors"]


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
        ((run, "a b"), "'a b' is no folder that is there, and no name of a repository"),
    ):
        with pytest.raises(SystemExit, match=f"^error: .*{message}") as stop:
            script([str(argument) for argument in arguments])
        assert "\n" not in stop.value.code
    assert not hub.repos


def source(rows):
    names = [f"kind {label}" for label in range(3)]
    made = {
        split: [
            make_row(f"{split}{i}.png", [CAPTIONS[i % 4]], [i % 3], i % 3, f"{split}{i}", "drawn") for i in range(n)
        ]
        for split, n in rows.items()
    }
    return Source("Tiny: shapes", "none at all", "drawn", names, made, lambda file: encoded(picture(int(file[-5]))))


def test_prepared_data_is_published_with_its_card_and_loads_by_name(hub, tmp_path):
    data = tmp_path / "data"
    prepare(lambda work: source({"train": 6, "test": 4}), data, {}, shard_rows=4)
    (data / "notes.txt").write_text("not published")
    publish(data, "me/data", tag="v1")
    files = published(hub, "me/data", "dataset")
    assert set(files) == {*(path.name for path in data.glob("*.parquet")), "README.md", "manifest.json"}
    card = DatasetCard.load("me/data")
    assert card.data.pretty_name == "Tiny: shapes" and card.data.task_categories == ["text-to-image"]
    assert card.data.to_dict() == yaml.safe_load(card.content.split("---\n")[1])
    assert "- Licence: none at all" in card.text and "data.name: me/data" in card.text
    found = {}
    exec(re.search(r"```python\n(.*?)```", card.text, re.S)[1], found)
    assert len(found["rows"]) == 6 and found["rows"][0]["image"].size == (20, 20)
    for split in ("train", "test"):
        there, here = load_rows("me/data", split, revision="v1"), load_rows(str(data), split)
        assert there.features == here.features and there["captions"][:] == here["captions"][:]
    for name, revision, message in (
        ("me/none", None, "there is no dataset repository 'me/none'|Dataset 'me/none' doesn't exist on the Hub"),
        ("me/data", "v9", "'me/data' has no revision 'v9'|v9"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=message) as error:
            load_rows(name, "train", revision=revision)
        assert "\n" not in str(error.value)


def test_the_web_page_is_published_as_a_space_that_names_its_models(hub, tmp_path, script):
    page = tmp_path / "page"
    shutil.copytree(SPACE, page)
    (page / "__pycache__").mkdir(exist_ok=True)
    (page / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"compiled")
    script([str(page), "me/demo", "--space", "me/a", "me/b@v1", "--tag", "v1"])
    there = published(hub, "me/demo", "space")
    own = {path.name: path.read_bytes() for path in SPACE.iterdir() if path.is_file()}
    assert there.keys() == own.keys() and hub.repos["space", "me/demo"].tags.keys() == {"v1"}
    assert {name for name in own if there[name] != own[name]} == {"README.md"}
    heads, texts = zip(*(card["README.md"].decode().split("---\n", 2)[1:] for card in (own, there)))
    before, after = map(yaml.safe_load, heads)
    assert after == before | {"models": ["me/a", "me/b@v1"]} and texts[0].strip() == texts[1].strip()
    assert {"app_file": "app.py", "sdk": "gradio", "python_version": "3.11"}.items() <= after.items()
    publish_space(page, "me/demo")  # with the embedded models
    assert published(hub, "me/demo", "space") == own


def test_what_is_no_web_page_is_refused(hub, tmp_path):
    with pytest.raises(ValueError, match="can not be published as a Space: it has no app.py"):
        publish_space(tmp_path, "me/demo")
    assert not hub.repos
