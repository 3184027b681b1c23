"""Whole runs on a tiny dataset: their recipes, and what they leave behind.

The data and a run of each phase are made once; tests read them, and change copies alone.
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import forked
import pytest
from conftest import TINY, TINY_IMAGE, TINY_TEXT, states_equal, write_tiny_data

from t2i_supcon.training import train
from t2i_supcon.training.checkpoint import list_checkpoints, load_checkpoint
from t2i_supcon.training.recipe import parse_recipe

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
        "data": {"name": str(data), "flip": True},
        "steps": 7,
        "batch_size": 8,
        "loss_weights": {"d_adv": 1, "d_magp": 1, "g_adv": 1, "words": 0.1, "sent": 0.1, "supcon": 0.1},
        "magp_every": 2,
        "ema_decay": 0.9,
        "augmentation": ["translation", "cutout"],
    }
    return parse_recipe(values | EVERY | changes)


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory):
    return write_tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture
def tiny_data(shared_data):
    before = modified(shared_data)
    yield shared_data
    assert modified(shared_data) == before, "change a copy: other tests read this data too"


def modified(folder):
    """When each file was changed last."""
    return {path: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture(scope="session")
def phase1(shared_data, tmp_path_factory):
    """The folder of a whole run of phase 1."""
    folder = tmp_path_factory.mktemp("runs") / "phase1"
    train(encoder_recipe(shared_data), folder)
    return folder


@pytest.fixture(scope="session")
def phase2(shared_data, phase1, tmp_path_factory):
    """The folder of a whole run of phase 2; what it printed is beside it, in printed.txt."""
    folder = tmp_path_factory.mktemp("runs") / "phase2"
    with open(folder.with_name("printed.txt"), "w") as printed, redirect_stdout(printed):
        train(gan_recipe(shared_data, phase1 / "model"), folder)
    return folder


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
        del state["seconds"], state["window"]  # which holds seconds; its sums are in the log
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
    """The same by torch's launcher."""
    return forked.run([sys.executable, SEVERAL.with_name("elastic_processes.py"), folder, *arguments])
