"""The scripts as people run them: help, a run from training to a picture, one clear line for each
mistake."""

import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
import yaml
from conftest import TINY, TINY_IMAGE, TINY_TEXT, tiny_config
from PIL import Image

from t2i_supcon.figures import MARGIN, enlarged
from t2i_supcon.models import GANS

ROOT = Path(__file__).parents[2]


def run(*command):
    """A script, started at once."""
    return forked.run([sys.executable, *command], cwd=ROOT)


def run_anew(*command):
    """The same in a new interpreter, which takes its time to start."""
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("script", "first"),
    [("train", "--"), ("generate", "--"), ("convert_checkpoint", "--"), ("prepare_data", "cub --")],
)
def test_help_is_for_newcomers(script, first):
    result = run(f"scripts/{script}.py", "--help")
    assert result.returncode == 0
    assert f"scripts/{script}.py {first}" in result.stdout  # an example to copy
    assert len(result.stdout) > 400


INTERRUPTED = """
import runpy, sys

class CtrlC:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("t2i_supcon", "torch"):
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
sys.argv = sys.argv[1:]
sys.path[0] = "scripts"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
ARGUMENTS = {  # enough to get beyond the parser
    "compare": ["x"],
    "convert_checkpoint": ["--arch", "damsm", "--output", "x"],
    "evaluate": ["--model", "x", "--output", "y"],
    "export": ["x"],
    "make_word_vectors": ["--output", "x"],
    "push_to_hub": ["x", "me/y"],
    "run_suite": ["--suite", "emoji"],
    "show_gradients": ["x"],
    "show_representations": ["--encoders", "x"],
    "train": ["--recipe", "x"],
}


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "scripts").glob("*.py")))
def test_ctrl_c_while_a_script_starts_is_one_line(script):
    result = run_anew("-c", INTERRUPTED, f"scripts/{script}.py", *ARGUMENTS.get(script, ()))
    assert result.returncode == 130 and result.stdout == ""
    assert result.stderr.splitlines() in (["interrupted"], ["interrupted; the same command goes on"])


def test_from_two_recipes_to_a_picture(tiny_data, tmp_path):
    every = {"log_every": 1, "sample_every": 9, "eval_every": 9, "checkpoint_every": 9}
    phase1 = {
        "phase": "encoders",
        "model_config": {"text_config": TINY_TEXT, "image_config": TINY_IMAGE},
        "image_size": 16,
        "data": {"name": str(tiny_data)},
        "steps": 2,
        "batch_size": 4,
        "loss_weights": {"words": 1, "sent": 1, "supcon": 1},
    }
    phase2 = {
        "phase": "gan",
        "model": "ssagan",
        "encoders": str(tmp_path / "encoders" / "model"),
        "model_config": TINY["ssagan"],
        "data": {"name": str(tiny_data)},
        "steps": 9,
        "batch_size": 4,
        "loss_weights": {"d_adv": 1, "g_adv": 1, "supcon": 1},
    }
    launch = (
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        1,
        "--num_machines",
        1,
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    )
    for name, recipe in (("encoders", phase1), ("gan", phase2)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe | every))
    result = run_anew(
        *launch, "scripts/train.py", "--recipe", tmp_path / "encoders.yaml", "--output-dir", tmp_path / "encoders"
    )
    assert result.returncode == 0, result.stderr
    result = run("scripts/train.py", "--recipe", tmp_path / "gan.yaml", "--output-dir", tmp_path / "gan", "steps=2")
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "gan" / "tensorboard").iterdir())
    assert "2/2" in result.stderr and "rows/s" in result.stderr and "supcon" in result.stderr  # the progress bar
    again = run("scripts/train.py", "--recipe", tmp_path / "gan.yaml", "--output-dir", tmp_path / "gan")
    assert (
        again.returncode != 0
        and again.stderr.strip().splitlines()[-1].startswith("error: ")
        and "--resume" in again.stderr
    )
    grid = tmp_path / "grid.png"
    result = run(
        "scripts/generate.py",
        "--model",
        tmp_path / "gan" / "model",
        "--prompt",
        "a red star",
        "--images-per-prompt",
        2,
        "--output",
        grid,
    )
    assert result.returncode == 0, result.stderr
    assert Image.open(grid).width >= 160
    result = run("scripts/generate.py", "--model", tmp_path / "gan" / "model", "--prompt", "zebra")
    assert (
        result.returncode != 0 and "no word of the prompt 'zebra'" in result.stderr and "Traceback" not in result.stderr
    )


@pytest.mark.parametrize("name", ["attngan", "ssagan", "galip"])
def test_attention_is_saved_beside_the_grid(name, tokenizer, tmp_path):
    GANS[name].composite(tiny_config(name, len(tokenizer))).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    prompts = ("--prompt", "a red star", "--prompt", "a blue zebra", "--images-per-prompt", 2)
    result = run(
        "scripts/generate.py", "--model", tmp_path / "model", *prompts, "--attention", "--output", tmp_path / "grid.png"
    )
    if name == "galip":
        assert result.returncode != 0 and "Traceback" not in result.stderr
        assert result.stderr.strip().splitlines()[-1].startswith("error: GALIPForTextToImage has no attentions")
        assert not list(tmp_path.glob("*.png"))
        return
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [
        str(tmp_path / file) for file in ("grid.png", "grid-attention-1.png", "grid-attention-2.png")
    ]
    _, *figures = (np.array(Image.open(file)) for file in result.stdout.split())
    # the image and its known words, or its masks of 4, 8 and 16 px
    panels = {"attngan": (4, 3), "ssagan": (4, 4)}[name]
    for i, (figure, n) in enumerate(zip(figures, panels), start=1):
        assert figure.shape[1] == n * (192 + MARGIN) + MARGIN
        first = Image.open(tmp_path / f"grid-{i}-1.png")
        assert np.array_equal(figure[MARGIN:, MARGIN:][:192, :192], np.array(enlarged(first, 192)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scripts/train.py", "--recipe", "none"), "there is no recipe 'none'"),
        (("scripts/train.py", "--recipe", "damsm-emoji", "stpes=3"), "did you mean 'steps'"),
        (("scripts/train.py", "--recipe", "damsm-emoji", "--max-steps", "0"), "max_steps is 0; it must be at least 1"),
        (("scripts/generate.py", "--model", "x"), "give --prompt or --prompts-file"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    result = run(*arguments)
    assert result.returncode != 0
    assert message in result.stderr and "Traceback" not in result.stderr
