"""Loading by name and publishing, over HTTP; every error is one sentence."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import HUB_CACHE, foreign_clip, tiny_config
from huggingface_hub import constants, hf_hub_download
from transformers import AutoModel, AutoTokenizer, pipeline

from t2i_supcon.conversion import load_encoders
from t2i_supcon.hub import explain, files_beside_weights, prepare_repository, push_files, split_revision
from t2i_supcon.models import GANS, CLIPPairModel, DAMSMModel, SSAGANForTextToImage
from t2i_supcon.pipeline import load_pipeline

ROOT = Path(__file__).parents[1]


def save(name, tokenizer, folder, seed=0):
    """A composite as phase 2 saves it."""
    torch.manual_seed(seed)
    config = tiny_config(name, len(tokenizer))
    GANS[name].composite(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    GANS[name].discriminator(config).save_pretrained(folder / "discriminator")
    return folder


@pytest.fixture
def folder(tokenizer, tmp_path):
    return save("ssagan", tokenizer, tmp_path / "model")


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_every_part_of_a_composite_loads_by_name(hub, gan_name, tokenizer, tmp_path):
    folder = save(gan_name, tokenizer, tmp_path / "model")
    hub.add("me/gan", folder)
    gan = GANS[gan_name]
    for load, options in (
        (gan.composite, {}),
        (AutoModel, {}),
        (gan.generator, {}),
        (gan.composite.text_encoder_class, {}),
        (gan.discriminator, {"subfolder": "discriminator"}),
    ):
        there, here = (load.from_pretrained(name, **options) for name in ("me/gan", folder))
        assert type(there) is type(here) and same(there, here) and there.loading_problems == ()
    assert AutoTokenizer.from_pretrained("me/gan")("a red star") == AutoTokenizer.from_pretrained(folder)("a red star")
    draws = pipeline("text-to-image", model="me/gan"), load_pipeline("me/gan"), load_pipeline(str(folder))
    pictures = [draw("a red star", seed=0, output_type="pt") for draw in draws]
    assert torch.equal(pictures[0], pictures[2]) and torch.equal(pictures[1], pictures[2])


def test_encoders_load_by_name(hub, encoders, tokenizer, tmp_path):
    encoders.save_pretrained(tmp_path / "damsm")
    foreign_clip().save_pretrained(tmp_path / "clip")
    for name, found in (("damsm", DAMSMModel), ("clip", CLIPPairModel)):
        tokenizer.save_pretrained(tmp_path / name)
        hub.add(f"me/{name}", tmp_path / name)
        (there, words), (here, _) = (load_encoders(where, 4) for where in (f"me/{name}", str(tmp_path / name)))
        assert type(there) is found and same(there, here) and words.model_max_length == 4
    assert same(DAMSMModel.from_pretrained("me/damsm").image_encoder, encoders.image_encoder)


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub, folder, tokenizer, tmp_path):
    repo = hub.add("me/gan", folder)
    other = save("ssagan", tokenizer, tmp_path / "other", seed=1)
    files = {path.relative_to(other).as_posix(): path.read_bytes() for path in other.rglob("*") if path.is_file()}
    first = repo.branches["main"]
    second = repo.commit(files, "another seed", "wide")
    for data in files.values():
        hub.lfs_put(data)
    repo.tags["v1"] = second
    expected = {"main": folder, first: folder, "wide": other, "v1": other, second: other}
    for revision, where in expected.items():
        here = SSAGANForTextToImage.from_pretrained(where)
        there = SSAGANForTextToImage.from_pretrained("me/gan", revision=revision)
        assert same(there, here) and same(load_pipeline(f"me/gan@{revision}").model, here)
    assert not same(*(load_pipeline(f"me/gan@{revision}").model for revision in ("main", "v1")))


def test_a_name_with_a_revision_is_taken_apart_and_a_folder_is_not(tmp_path):
    (tmp_path / "a@b").mkdir()
    assert split_revision("me/gan@step-10") == ("me/gan", "step-10")
    assert split_revision("me/gan") == ("me/gan", None)
    assert split_revision(str(tmp_path / "a@b")) == (str(tmp_path / "a@b"), None)


def test_arguments_of_from_pretrained_hold_for_names(hub, folder, tmp_path):
    """Also that what was stored is checked, wherever it was downloaded to."""
    hub.add("me/gan", folder, private=True)
    load = SSAGANForTextToImage.from_pretrained
    model = load("me/gan", cache_dir=tmp_path / "cache", token="hf_test")
    assert same(model, load(folder)) and not os.path.exists(HUB_CACHE)
    asked = len(hub.requests)
    assert same(load("me/gan", cache_dir=tmp_path / "cache", local_files_only=True), model)
    assert len(hub.requests) == asked
    assert {p.dtype for p in load("me/gan", dtype=torch.bfloat16).parameters()} == {torch.bfloat16}
    for device_map in ("auto", "cpu"):
        assert same(load("me/gan", device_map=device_map), model)
    model.save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    hub.add("me/shards", folder)
    assert same(load("me/shards"), model) and same(load_pipeline("me/shards").model, model)
    broken = model.state_dict() | {"generator.project_noise.weight": torch.zeros(256, 6, dtype=torch.int32)}
    model.save_pretrained(folder, state_dict=broken)
    for shard in folder.glob("model-*"):
        shard.unlink()
    hub.add("me/broken", folder)
    for options in ({}, {"cache_dir": tmp_path / "cache", "revision": "main"}):
        (problem,) = load("me/broken", **options).loading_problems
        assert problem == "generator.project_noise.weight holds whole numbers (I32)"


def test_a_download_that_is_cut_goes_on_where_it_was(hub, tmp_path):
    data = os.urandom(25 * 2**20)
    (tmp_path / "large.bin").write_bytes(data)
    hub.add("me/large", tmp_path)
    with hub.failing("GET /lfs", cut_after=22 * 2**20, times=1):
        path = hf_hub_download("me/large", "large.bin")
    assert Path(path).read_bytes() == data
    assert hub.ranges == [f"bytes={20 * 2**20}-"]


def test_offline_what_was_downloaded_loads_and_the_rest_is_one_line(hub, folder):
    hub.add("me/gan", folder)
    load_pipeline("me/gan")
    code = (
        "from t2i_supcon.pipeline import load_pipeline\n"
        "from t2i_supcon import SSAGANForTextToImage as GAN\n"
        "print(type(load_pipeline('me/gan').model).__name__)\n"
        "for load in (load_pipeline, GAN.from_pretrained):\n"
        "    try:\n"
        "        load('me/none')\n"
        "    except (ValueError, OSError) as error:\n"
        "        print(error)\n"
    )
    asked = len(hub.requests)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    first, *errors = result.stdout.splitlines()
    assert first == "SSAGANForTextToImage" and len(errors) == 2 and len(hub.requests) == asked
    for error in errors:
        assert "'me/none' is not downloaded (or not wholly), and offline mode is on: unset HF_HUB_OFFLINE" in error


REFUSALS = {  # name, what the Hub answers with, and what the sentence must say
    "a wrong name": ("me/none", None, "there is no model repository 'me/none' on 127.0.0.1"),
    "no name at all": (
        "me/my model",
        None,
        "no saved model found there|'me/my model' is no folder .* no name of a repository",
    ),
    "private": ("other/private", None, "no model repository 'other/private' on .* that you may see: .*hf auth login"),
    "gated": ("other/gated", None, "'other/gated' is gated: ask for access on http.*/other/gated, then log in"),
    "a dataset": ("me/data", None, "there is no model repository 'me/data' on 127.0.0.1"),
    "no revision": ("me/gan@v9", None, "'me/gan' has no revision 'v9': name a branch, a tag or a whole commit id"),
    "no file": ("me/empty", None, "does not appear to have a file named|Unrecognized model"),
    "bad token": ("me/gan", 401, "does not accept the token that was sent for 'me/gan'.*hf auth login"),
    "no right": ("me/gan", 403, "refuses access to 'me/gan'.* .403: as the test wants it.: the token lacks that right"),
    "no page": ("me/gan", 404, "knows nothing of 'me/gan'.* .404.*: check the name and HF_ENDPOINT"),
}


@pytest.fixture
def repositories(hub, folder, tmp_path):
    hub.add("me/gan", folder)
    hub.add("other/private", folder, private=True)
    hub.add("other/gated", folder, gated=True)
    hub.add("me/data", folder, kind="dataset")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("# nothing else")
    hub.add("me/empty", tmp_path / "empty")
    return hub


def sentence(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 500 and "huggingface.co" not in text
    return text


@pytest.mark.parametrize("name", REFUSALS)
def test_what_the_hub_refuses_is_one_sentence(repositories, name):
    repository, status, message = REFUSALS[name]
    source, revision = split_revision(repository)
    options = {} if revision is None else {"revision": revision}
    with repositories.failing("me/gan" if status else "nothing", status):
        with pytest.raises(ValueError, match=message) as error:
            load_pipeline(repository)
        assert repository in sentence(error)
        with pytest.raises(OSError, match=message) as error:
            SSAGANForTextToImage.from_pretrained(source, **options)
        assert source in sentence(error)


def test_a_fault_of_the_hub_is_named_where_the_library_says_check_your_connection(repositories):
    with repositories.failing("me/gan", 500, Retry_After="0"), pytest.raises(ValueError) as error:
        load_pipeline("me/gan")
    assert "has a fault of its own at 'me/gan' (500: as the test wants it): try again later" in sentence(error)
    assert "check your connection" in str(error.value.__cause__.__cause__)


def test_a_cut_connection_is_named_and_the_same_call_then_works(repositories):
    with repositories.failing("GET /lfs", cut_after=100):
        with pytest.raises(OSError, match="the connection to 127.0.0.1.* broke off at 'me/gan'.*same command") as error:
            SSAGANForTextToImage.from_pretrained("me/gan")
    sentence(error)
    SSAGANForTextToImage.from_pretrained("me/gan")


def test_what_is_not_downloaded_and_may_not_be_is_named(repositories):
    with pytest.raises(OSError, match="'me/gan' is not downloaded .* and local_files_only asks for") as error:
        SSAGANForTextToImage.from_pretrained("me/gan", local_files_only=True)
    sentence(error)


def test_errors_that_are_not_of_the_hub_are_left_alone():
    try:
        raise ValueError("a size in words") from KeyError("size")
    except ValueError as error:
        assert explain(error, "me/gan") is None


FILES = {"a.txt": b"text", "model.safetensors": b"weights" * 99, "discriminator/model.safetensors": b"more" * 99}


def commits(hub):
    return [request for request in hub.requests if "/commit/" in request]


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_files_are_published_in_one_commit_and_tagged(hub, kind):
    sdk = "gradio" if kind == "space" else None
    oid = push_files(FILES, "me/new", kind, private=True, tag="v1", space_sdk=sdk)
    repo = hub.repos[kind, "me/new"]
    assert repo.files() == repo.files("v1") == FILES and repo.branches["main"] == repo.tags["v1"] == oid
    assert repo.private and len(commits(hub)) == 1
    # nothing new to send
    assert push_files(FILES, "me/new", kind, tag="v2", space_sdk=sdk) == oid and len(commits(hub)) == 1
    assert repo.tags["v2"] == oid


def test_a_new_version_replaces_what_belongs_to_it_and_leaves_the_rest(hub):
    shards = {f"model-0000{i}-of-00002.safetensors": b"%d" % i for i in (1, 2)}
    push_files(shards | {"model.safetensors.index.json": b"{}", "samples/9.png": b"9", "notes.md": b"mine"}, "me/gan")
    push_files(FILES, "me/gan")
    assert hub.repos["model", "me/gan"].files() == FILES | {"notes.md": b"mine"}
    assert len(commits(hub)) == 2


def test_a_tag_that_is_there_is_refused_before_anything_is_sent(hub):
    oid = push_files(FILES, "me/gan", tag="v1")
    with pytest.raises(ValueError, match="'me/gan' has a tag 'v1' already, and nothing was sent: choose another one"):
        push_files({"a.txt": b"other"}, "me/gan", tag="v1")
    repo = hub.repos["model", "me/gan"]
    assert repo.branches["main"] == repo.tags["v1"] == oid


@pytest.mark.parametrize(
    ("pattern", "status", "message"),
    [
        ("POST /api/repos/create|GET /api/models", 401, "does not accept the token"),
        ("POST .*preupload", 403, "refuses access to 'me/gan' .403"),
        ("POST .*info/lfs", 403, "refuses access to 'me/gan' .403"),
        ("PUT /lfs", 403, "refuses access to 'me/gan' .403"),
        ("POST .*/commit/", 409, "'me/gan' is in the way on 127.0.0.1.* .409"),
        ("POST .*/commit/", 412, "'me/gan' was changed on .* by somebody else meanwhile .412"),
        ("POST .*/commit/", 429, "too many requests and refuses those for 'me/gan' .429.*: try again in 7 s"),
        ("POST .*/commit/", 500, "has a fault of its own at 'me/gan' .500"),
    ],
)
def test_an_upload_that_fails_is_one_sentence_and_leaves_no_tag(hub, pattern, status, message):
    first = push_files({"a.txt": b"before"}, "me/gan")
    with hub.failing(pattern, status, Retry_After="7"), pytest.raises(OSError, match=message) as error:
        push_files(FILES, "me/gan", tag="v1", advice="the model is whole in runs/gan")
    assert sentence(error).endswith("; the model is whole in runs/gan")
    repo = hub.repos["model", "me/gan"]
    assert repo.branches["main"] == first and not repo.tags
    oid = push_files(FILES, "me/gan", tag="v1")
    assert repo.tags == {"v1": oid} and repo.files("v1") == FILES | {"a.txt": b"text"}


def test_a_tag_that_cannot_be_set_leaves_the_commit_whole(hub):
    with hub.failing("POST .*/tag/", 500), pytest.raises(OSError, match="has a fault of its own"):
        push_files(FILES, "me/gan", tag="v1")
    repo = hub.repos["model", "me/gan"]
    assert repo.files() == FILES and not repo.tags


def test_an_upload_killed_on_its_way_leaves_no_tag_and_the_repository_as_it_was(hub):
    first = push_files({"a.txt": b"before"}, "me/gan")
    held = threading.Event()
    with hub.failing("PUT /lfs", wait=held):
        process = multiprocessing.get_context("fork").Process(
            target=push_files, args=(FILES, "me/gan"), kwargs={"tag": "v1"}
        )
        process.start()
        while not any(request.startswith("PUT /lfs") for request in list(hub.requests)):
            assert process.is_alive()
            time.sleep(0.01)
        process.kill()
        process.join()
        held.set()
    repo = hub.repos["model", "me/gan"]
    assert repo.branches["main"] == first and not repo.tags and len(commits(hub)) == 1


def test_names_of_others_and_of_nobody_are_refused(hub):
    for repository, message in (
        ("other/gan", "refuses access to 'other/gan' .403: You don't have the rights"),
        ("me/no such name", "'me/no such name' is no folder that is there, and no name of a repository"),
    ):
        with pytest.raises(OSError, match=message) as error:
            push_files(FILES, repository)
        sentence(error)


def test_nothing_is_sent_in_offline_mode(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    for push in (lambda: push_files(FILES, "me/gan"), lambda: prepare_repository("me/gan")):
        with pytest.raises(OSError, match="offline mode is on, and nothing was sent to 'me/gan': unset HF_HUB_OFF"):
            push()
    assert len(hub.requests) == asked


def test_files_beside_weights_come_from_a_folder_or_from_the_hub(hub, folder):
    (folder / "README.md").write_text("# card")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "file").touch()
    hub.add("me/gan", folder)
    for source in (str(folder), "me/gan", "me/gan@main"):
        assert set(files_beside_weights(source)) == {
            "README.md",
            "discriminator/config.json",
            "discriminator/model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        }
