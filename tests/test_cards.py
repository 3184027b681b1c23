"""Model cards: what they say comes from the files, their code runs, their metadata survives."""

import json
import re

import pytest
import yaml
from conftest import tiny_config
from huggingface_hub import ModelCard

from t2i_supcon.cards import Link, is_made, model_card
from t2i_supcon.hub import folder_files
from t2i_supcon.models import GANS, SSAGANGenerator
from t2i_supcon.publishing import publish

RECIPE = {
    "phase": "gan",
    "encoders": "runs/damsm/model",
    "data": {"name": "emoji"},
    "loss_weights": {"d_adv": 1.0, "supcon": 0.1},
    "supcon_temperature": 0.1,
    "positives": "label",
}
PROMPTS = ['a red star: "bright" — it\'s new', "yellow circle"]
FACTS = {
    "step": 1200,
    "images_seen": 38400,
    "seconds": 5400.0,
    "hardware": "one CPU",
    "processes": 2,
    "precision": "no",
    "versions": {"torch": "2.0"},
    "data": {"name": "emoji", "title": "drawings", "licence": "several, by row", "on_hub": False},
    "samples": [{"file": f"samples/{i}.png", "text": text} for i, text in enumerate(PROMPTS)],
}
PROTOCOL = {
    "features": {"network": "imagenet-lite0", "sha256": "5793", "resize": None},
    "data": "emoji",
    "split": "test",
    "generated": 100,
    "truncation": None,
    "settings": {"kid": {"subsets": None}},
}
EVALUATION = {"values": {"frechet": 12.5, "kid": 0.25}, "protocol": PROTOCOL, "subject": {}}


@pytest.fixture
def folder(tokenizer, tmp_path):
    config = tiny_config("ssagan", len(tokenizer))
    GANS["ssagan"].composite(config).save_pretrained(tmp_path)
    GANS["ssagan"].discriminator(config).save_pretrained(tmp_path / "discriminator")
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "training.json").write_text(json.dumps(FACTS))
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
    (tmp_path / "evaluation.md").write_text("| metric | judged |\n|---|---|\n| kid | 0.25 |")
    (tmp_path / "samples").mkdir()
    for sample in FACTS["samples"]:
        (tmp_path / sample["file"]).write_bytes(b"picture")
    return tmp_path


def test_a_card_says_what_the_files_say(folder):
    links = [Link("me/ssagan-emoji", "the baseline")]
    text = model_card(folder_files(folder), "me/ssagan-emoji-scl", "me/damsm-emoji-scl", links)
    card = ModelCard(text)
    assert is_made(text) and card.data.library_name == "t2i_supcon" and card.data.pipeline_tag == "text-to-image"
    assert card.data.base_model == "me/damsm-emoji-scl" and card.data.license == "apache-2.0"
    assert card.data.datasets is None  # the embedded data is no repository
    assert card.data.widget == [{"text": t, "output": {"url": f"samples/{i}.png"}} for i, t in enumerate(PROMPTS)]
    results = {result.metric_type: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == EVALUATION["values"]
    said = PROTOCOL | {"features": {"network": "imagenet-lite0", "sha256": "5793"}, "settings": {"kid": {}}}
    del said["truncation"]  # the library leaves out what is null
    assert all(result.metric_args == said and result.dataset_split == "test" for result in results.values())
    for said in (
        "SSA-GAN trained on drawings, with supervised contrast (SCL)",
        "<Gallery />",
        "`me/damsm-emoji-scl`, frozen",
        "`d_adv` 1, `supcon` 0.1",
        "`init_from: me/ssagan-emoji-scl` and `encoders: me/damsm-emoji-scl`",
        "| steps | 1,200 |",
        "| images seen | 38,400 |",
        "| time | 1.50 h",
        "one CPU, 2 process(es), precision no",
        "| kid | 0.25 |",
        "The weight 0.1 and the temperature 0.1 of that term",
        "this project's choices",
        "- Data: several, by row.",
        "[me/ssagan-emoji](https://huggingface.co/me/ssagan-emoji): the baseline",
        "@article{liu2024supcon",
        "--recipe recipe.yaml",
    ):
        assert said in text, said


def test_metadata_survives_a_round_trip(folder, tmp_path):
    text = model_card(folder_files(folder), "me/gan", "me/damsm")
    card = ModelCard(text)
    card.save(tmp_path / "again.md")
    again = ModelCard.load(tmp_path / "again.md")
    assert again.data.to_dict() == card.data.to_dict() == yaml.safe_load(text.split("---\n")[1])
    assert (tmp_path / "again.md").read_text().strip() == text.strip()


def code_blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_code_of_a_published_card_runs(hub, folder, encoders, tokenizer, tmp_path, monkeypatch):
    publish(folder, "me/gan")
    encoders.save_pretrained(tmp_path / "encoders")
    tokenizer.save_pretrained(tmp_path / "encoders")
    publish(tmp_path / "encoders", "me/damsm")
    monkeypatch.chdir(tmp_path)
    found = {}
    for name in ("me/gan", "me/damsm"):
        blocks = code_blocks(ModelCard.load(name).content.replace('"a red heart"', '"a red star"'))
        assert len(blocks) == (2 if name == "me/gan" else 1)
        for block in blocks:
            exec(block, found)
    assert (tmp_path / "picture.png").exists() and found["text"].sent_emb.shape[0] == 1
    assert type(found["discriminator"]).__name__ == "SSAGANDiscriminator"


def test_the_code_of_a_card_names_parts_that_are_there(folder, monkeypatch, tmp_path):
    for file in (folder / "discriminator").iterdir():
        file.unlink()
    text = model_card(folder_files(folder), str(folder))
    assert "iscriminator" not in text.split("## Training")[0] and "init_from" not in text
    monkeypatch.chdir(tmp_path)
    found = {}
    for block in code_blocks(text):
        exec(block.replace(json.dumps(PROMPTS[0], ensure_ascii=False), '"a red star"'), found)
    assert type(found["generator"]).__name__ == "SSAGANGenerator"
    SSAGANGenerator.from_pretrained(folder).save_pretrained(tmp_path / "part")
    text = model_card(folder_files(tmp_path / "part"), str(tmp_path / "part"))
    (block,) = code_blocks(text)
    exec(block, found)
    assert type(found["part"]).__name__ == "SSAGANGenerator"
    assert ModelCard(text).data.pipeline_tag is None and "encoders" not in ModelCard(text).data.tags


def test_what_is_not_known_is_not_said(folder):
    for name in ("recipe.yaml", "training.json", "evaluation.json", "evaluation.md"):
        (folder / name).unlink()
    text = model_card(folder_files(folder), "me/gan")
    assert (
        "How it was trained is not recorded" in text and "It was not evaluated by a network that took no part" in text
    )
    data = ModelCard(text).data
    assert data.eval_results is None and "widget" not in data.to_dict() and data.license == "other"
    assert "Gallery" not in text and "None" not in text
    without = dict(RECIPE, loss_weights={"d_adv": 1.0})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(without))
    text = model_card(folder_files(folder), "me/gan")
    assert "the baseline without supervised contrast" in text and "of that term" not in text
    assert "this project's addition" not in text
    (folder / "recipe.yaml").write_text(yaml.safe_dump(dict(RECIPE, loss_weights={"d_adv": 1.0, "pixels": 100.0})))
    assert "- `pixels`, the mean absolute difference to the real picture, is this project's addition" in model_card(
        folder_files(folder), "me/gan"
    )
