"""Checkpoints: complete or absent."""

import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from t2i_supcon.training.checkpoint import list_checkpoints, load_checkpoint, restore_module, restore_rng, rng_state, save_checkpoint


def test_the_newest_are_kept(tmp_path):
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, step, {"step": step, "x": torch.tensor([step])}, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000010", "step-00000100"]
    assert load_checkpoint(list_checkpoints(tmp_path)[-1]) == {"step": 100, "x": torch.tensor([100])}


def test_a_failed_write_leaves_the_old_one(tmp_path):
    save_checkpoint(tmp_path, 1, {"step": 1}, keep=1)
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_checkpoint(tmp_path, 2, {"step": lambda: 2}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert load_checkpoint(list_checkpoints(tmp_path)[-1]) == {"step": 1}


def test_a_half_written_folder_is_never_taken_for_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, 1, {"step": 1}, keep=2)
    partial = tmp_path / ".partial-step-00000002"  # as a killed process leaves it
    partial.mkdir()
    (partial / "state.pt").write_bytes(b"half")
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]
    save_checkpoint(tmp_path, 2, {"step": 2}, keep=2)
    assert load_checkpoint(list_checkpoints(tmp_path)[-1]) == {"step": 2}


def test_code_in_a_checkpoint_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    folder = tmp_path / "step-00000001"
    folder.mkdir()
    with open(folder / "state.pt", "wb") as file:
        torch.save(Evil(), file)
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(folder)
    assert not (tmp_path / "owned").exists()


def draw():
    return [random.gauss(0, 1), random.random(), *np.random.standard_normal(3), np.random.rand(), *torch.randn(3).tolist()]


def test_every_random_generator_goes_on_where_it_was(tmp_path):
    draw()  # both gauss generators now hold a number back
    save_checkpoint(tmp_path, 1, rng_state(torch.device("cpu")), keep=1)
    expected = draw() + draw()
    restore_rng(load_checkpoint(tmp_path / "step-00000001"), torch.device("cpu"))
    assert draw() + draw() == expected


def test_random_numbers_of_another_device_are_refused():
    state = rng_state(torch.device("cpu")) | {"cuda": torch.zeros(16, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="written on cuda and this run is on cpu"):
        restore_rng(state, torch.device("cpu"))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, "net lacks bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "extra": torch.zeros(1)}, "unknown tensor extra"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"net.weight has shape \(2, 4\) there and \(2, 3\) here"),
    ],
)
def test_a_checkpoint_of_other_sizes_is_refused_untouched(state, message):
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(ValueError, match=message):
        restore_module(module, state, "net")
    assert torch.equal(module.weight, before)
