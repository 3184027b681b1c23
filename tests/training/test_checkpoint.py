"""Checkpoints: complete or absent."""

import os
import pickle
import random
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import full_disk
from torch import nn

from t2i_supcon.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    restore_module,
    restore_rng,
    rng_state,
    save_checkpoint,
    save_model,
    writing,
)


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


def test_a_step_saved_again_replaces_its_state_or_keeps_it(tmp_path):
    save_checkpoint(tmp_path, 1, {"step": 1, "reviewed": False}, keep=1)
    save_checkpoint(tmp_path, 1, {"step": 1, "reviewed": True}, keep=1)
    with full_disk(10), pytest.raises(OSError, match="step-00000001 could not be written"):
        save_checkpoint(tmp_path, 1, {"step": 1, "reviewed": 2}, keep=1)
    assert load_checkpoint(list_checkpoints(tmp_path)[-1]) == {"step": 1, "reviewed": True}
    assert [path.name for path in (tmp_path / "step-00000001").iterdir()] == ["state.pt"]


def test_a_half_written_folder_is_never_taken_for_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, 1, {"step": 1}, keep=2)
    partial = tmp_path / ".partial-step-00000002"  # as a killed process leaves it
    partial.mkdir()
    (partial / "state.pt").write_bytes(b"half")
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]
    save_checkpoint(tmp_path, 3, {"step": 3}, keep=2)
    assert load_checkpoint(list_checkpoints(tmp_path)[-1]) == {"step": 3}
    assert not partial.exists()


def test_a_half_deleted_folder_is_never_taken_for_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, 1, {"step": 1}, keep=2)
    (tmp_path / "step-00000002").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]
    for step in (3, 4):
        save_checkpoint(tmp_path, step, {"step": step}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize("room", [100, 100_000, 400_800])  # within the first record, the tensor, the table of contents
def test_a_full_disk_is_one_error_and_leaves_the_old_one(tmp_path, room):
    small, large = ({"step": n, "x": torch.zeros(n, 50_000)} for n in (1, 2))
    save_checkpoint(tmp_path, 1, small, keep=1)
    with (
        full_disk(room),
        pytest.raises(
            OSError, match=r"step-00000002 could not be written: File too large; complete checkpoints are untouched"
        ),
    ):
        save_checkpoint(tmp_path, 2, large, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert torch.equal(load_checkpoint(list_checkpoints(tmp_path)[-1])["x"], small["x"])


def test_a_full_disk_leaves_the_old_model(tmp_path, encoders):
    save_model(encoders, tmp_path / "best")
    before = (tmp_path / "best" / "model.safetensors").read_bytes()
    with full_disk(10_000), pytest.raises(OSError, match="best could not be written: .*File too large"):
        save_model(encoders, tmp_path / "best")
    assert [path.name for path in tmp_path.iterdir()] == ["best"] and (
        tmp_path / "best" / "model.safetensors"
    ).read_bytes() == before


@contextmanager
def as_nobody():
    """Root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_closed_folder_is_one_error_and_leaves_the_old_one():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_checkpoint(folder, 1, {"step": 1}, keep=1)
        folder.chmod(0o555)
        with as_nobody(), pytest.raises(OSError, match="step-00000002 could not be written: Permission denied"):
            save_checkpoint(folder, 2, {"step": 2}, keep=1)
        assert [path.name for path in folder.iterdir()] == ["step-00000001"]
        assert load_checkpoint(list_checkpoints(folder)[-1]) == {"step": 1}
        folder.chmod(0o755)


def test_errors_that_have_nothing_to_do_with_the_disk_pass(tmp_path):
    with pytest.raises(RuntimeError, match="the device has gone"), writing(tmp_path):
        raise RuntimeError("the device has gone")


def test_code_in_a_checkpoint_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    folder = tmp_path / "step-00000001"
    folder.mkdir()
    with open(folder / "state.pt", "wb") as file:
        torch.save(Evil(), file)
    with pytest.raises(ValueError, match=r"is damaged or no checkpoint .it holds other than tensors.*: start anew"):
        load_checkpoint(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text"])
def test_a_damaged_checkpoint_is_named_and_an_older_one_offered(damage, tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"weights": torch.arange(1000.0)}, keep=2)
    file = tmp_path / "step-00000002" / "state.pt"
    content = bytearray(file.read_bytes())
    place = content.index(torch.arange(1000.0)[500:504].numpy().tobytes())
    content[place] ^= 1
    damaged = {"empty": b"", "cut": content[:2000], "flipped": bytes(content), "text": b"<html>"}
    file.write_bytes(damaged[damage])
    message = "step-00000002 is damaged.*: delete step-00000002, and --resume goes on from step-00000001"
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint(tmp_path / "step-00000002")
    assert "weights_only" not in str(caught.value)
    assert load_checkpoint(tmp_path / "step-00000001").keys() == {"weights"}


def test_checkpoints_of_other_versions_are_refused(tmp_path):
    folder = tmp_path / "step-00000001"
    folder.mkdir()
    torch.save({"step": 1}, folder / "state.pt")
    with pytest.raises(ValueError, match="step-00000001 was written by another version"):
        load_checkpoint(folder)


def draw():
    return [
        random.gauss(0, 1),
        random.random(),
        *np.random.standard_normal(3),
        np.random.rand(),
        *torch.randn(3).tolist(),
    ]


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
        (
            {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)},
            r"net.weight has shape \(2, 4\) there and \(2, 3\) here",
        ),
    ],
)
def test_a_checkpoint_of_other_sizes_is_refused_untouched(state, message):
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(ValueError, match=message):
        restore_module(module, state, "net")
    assert torch.equal(module.weight, before)
