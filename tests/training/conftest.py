"""Whole runs on a tiny dataset: their recipes, and what they leave behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from conftest import TINY, TINY_IMAGE, TINY_TEXT, states_equal

from t2i_supcon.training import train
from t2i_supcon.training.checkpoint import list_checkpoints, load_checkpoint
from t2i_supcon.training.recipe import parse_recipe

ROOT = Path(__file__).parents[2]
SEVERAL = Path(__file__).with_name("several_processes.py")
EVERY = {"log_every": 2, "sample_every": 4, "eval_every": 4, "checkpoint_every": 3, "keep_checkpoints": 9}


def encoder_recipe(folder, **changes):
    values = {
        "phase": "encoders",
        "model_config": {"text_config": TINY_TEXT, "image_config": TINY_IMAGE},
        "image_size": 16,
        "data": {"name": str(folder), "random_crop": True, "flip": True},
        "steps": 7,
        "batch_size": 8,
        "loss_weights": {"words": 1, "sent": 1, "supcon": 1},
        "lr_schedule": "cosine",
    }
    return parse_recipe(values | EVERY | changes)


def gan_recipe(data, encoders, **changes):
    values = {
        "phase": "gan",
        "model": "ssagan",
        "encoders": str(encoders),
        "model_config": TINY["ssagan"],
        "data": {"name": str(data)},
        "steps": 7,
        "batch_size": 8,
        "loss_weights": {"d_adv": 1, "d_magp": 1, "g_adv": 1, "words": 0.1, "sent": 0.1, "supcon": 0.1},
        "magp_every": 2,
        "ema_decay": 0.9,
        "augmentation": ["translation", "cutout"],
    }
    return parse_recipe(values | EVERY | changes)


@pytest.fixture
def phase1(tiny_data, tmp_path):
    """The folder of a whole run of phase 1."""
    train(encoder_recipe(tiny_data), tmp_path / "phase1")
    return tmp_path / "phase1"


def entries(folder):
    """The lines of the log."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def newest(folder):
    """The last checkpoint."""
    return load_checkpoint(list_checkpoints(folder / "checkpoints")[-1])


def assert_same_run(*folders, steps=7):
    """The last checkpoints and all that was logged, but for the seconds it took."""
    a, b = map(newest, folders)
    for state in (a, b):
        state.pop("window")  # holds seconds; its sums are in the log
    assert a["step"] == steps and states_equal(a, b)
    plain = [
        [{name: value for name, value in e.items() if name != "rows_per_second"} for e in entries(folder)]
        for folder in folders
    ]
    assert plain[0] == plain[1]


def launch(folder, *arguments):
    """`several_processes.py` in two of them."""
    return forked.run_together([sys.executable, SEVERAL, folder, *arguments])


def launch_by_torchrun(folder, *arguments):
    """The same, which takes its time to start."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*torchrun, SEVERAL, folder, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
