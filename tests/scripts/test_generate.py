"""`scripts/generate.py`: its options, and one line for each mistake."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_pipeline import save_model

from t2i_supcon.models import GANS, base

SCRIPT = Path(__file__).parents[2] / "scripts" / "generate.py"


@pytest.fixture
def generate():
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main([str(argument) for argument in arguments])


@pytest.fixture
def model(tokenizer, tmp_path):
    return save_model("ssagan", tokenizer, tmp_path / "model")


def test_prompts_of_options_and_file_are_drawn_in_turn(generate, model, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a blue square\n\nyellow star\n")
    arguments = ("--model", model, "--prompt", "a red star", "--prompts-file", tmp_path / "prompts.txt")
    options = ("--images-per-prompt", 2, "--seed", 3, "--device", "cpu", "--dtype", "bfloat16")
    generate(*arguments, *options, "--output", tmp_path / "out" / "grid.png")
    output = capsys.readouterr()
    assert output.out.split() == [str(tmp_path / "out" / "grid.png")]
    assert f"single pictures: {tmp_path}/out/grid-1-1.png to grid-3-2.png" in output.err
    texts = [Image.open(tmp_path / "out" / f"grid-{n}-2.png").text for n in (1, 2, 3)]
    assert [text["prompt"] for text in texts] == ["a red star", "a blue square", "yellow star"]
    assert {(text["seed"], text["model"]) for text in texts} == {("3", str(model))}


def test_the_same_command_draws_the_same_files(generate, model, tmp_path):
    for name in ("a.png", "b.png"):
        generate("--model", model, "--prompt", "a red star", "--truncation", 0.5, "--output", tmp_path / name)
    assert np.array_equal(*(np.asarray(Image.open(tmp_path / name)) for name in ("a-1-1.png", "b-1-1.png")))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


MISTAKES = {
    "no prompt": ((), "give --prompt or --prompts-file"),
    "no picture": (("--prompt", "a star", "--images-per-prompt", 0), "num_images_per_prompt is 0; it must be at least"),
    "a negative number of pictures": (("--prompt", "a star", "--images-per-prompt", -1), "num_images_per_prompt is -1"),
    "pictures beyond number": (
        ("--prompt", "a star", "--images-per-prompt", 10**12),
        "is 1000000000000; it must be at least 1",
    ),
    "a negative seed": (("--prompt", "a star", "--seed", -5), "seed is -5; it must be from 0 to 2^64 - 1"),
    "a huge seed": (("--prompt", "a star", "--seed", 10**30), "seed is 2^100 or so; it must be from 0"),
    "attention of two": (("--prompt", "a star", "--attention", "--model", "other"), "give --model once"),
    "truncation to nothing": (("--prompt", "a star", "--truncation", 0), "truncation is 0.0; it must be a positive"),
    "truncation that is no number": (("--prompt", "a star", "--truncation", "nan"), "truncation is nan"),
    "an unknown word": (("--prompt", "zebra" * 10**4), "no word of the prompt 'zebrazebra"),
    "a device that is not there": (("--prompt", "a star", "--device", "cuda:99"), "device 'cuda:99' cannot be used"),
    "a device that is none": (("--prompt", "a star", "--device", "toaster"), "device 'toaster' cannot be used"),
    "a prompts file in another encoding": (("--prompts-file", "latin.txt"), "latin.txt: line 1 is not UTF-8"),
    "an empty prompts file": (("--prompts-file", "empty.txt"), "nothing to draw"),
    "a missing prompts file": (("--prompts-file", "none.txt"), "none.txt: no such file"),
    "a pipe of prompts": (("--prompts-file", "pipe"), "pipe: a pipe or device"),
    "an output that is no picture": (("--prompt", "a star", "--output", "grid.txt"), "ends in .png"),
    "an output below a file": (("--prompt", "a star", "--output", "empty.txt/grid.png"), "empty.txt"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_and_leave_no_picture(generate, model, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("grün".encode("latin-1"))
    (tmp_path / "empty.txt").touch()
    os.mkfifo(tmp_path / "pipe")
    arguments, message = MISTAKES[name]
    with pytest.raises(SystemExit) as stop:
        generate("--model", model, *arguments)
    text = stop.value.code
    assert text.startswith("error: ") and message in text and "\n" not in text and len(text) < 400
    assert not list(tmp_path.rglob("*.png"))


def test_other_things_than_a_model_are_one_line(generate, model, encoders, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoders.save_pretrained(tmp_path / "encoders")
    tokenizer.save_pretrained(tmp_path / "encoders")
    gan = GANS["ssagan"]
    gan.discriminator(gan.config.from_pretrained(model)).save_pretrained(model / "discriminator")
    for name, message in (
        ("encoders", "it holds a DAMSMModel; name the folder of a text-to-image model"),
        ("model/discriminator", "it holds a SSAGANDiscriminator; name the folder"),
        ("model/config.json", "this is a file, not a folder"),
        ("model/none", "there is no such folder"),
        ("someone/none", "there is no such folder, and there is no model repository 'someone/none'"),
    ):
        with pytest.raises(SystemExit, match=message) as stop:
            generate("--model", name, "--prompt", "a red star")
        assert stop.value.code.startswith("error: model '") and "\n" not in stop.value.code


def test_control_c_is_one_line(generate, model, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "draw_images", interrupted)
    with pytest.raises(SystemExit) as stop:
        generate("--model", model, "--prompt", "a red star", "--output", tmp_path / "grid.png")
    assert stop.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
