"""Checkpoints to resume from: complete or absent, never half-written, read without running anything
stored in them."""

import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging

from ..files import new_folder, remove_partial_files

FILE = "state.pt"
FORMAT = 3  # of what the file holds; raised with each change that older code could not resume from
PREFIX = "step-"


def save_checkpoint(folder: Path, step: int, state: dict, keep: int) -> Path:
    """Writes `state` as the checkpoint of `step`, then deletes all but the newest `keep`.

    Args:
        folder: where the checkpoints of a run lie.
        state: nested dicts and lists of tensors and plain values.

    Raises:
        OSError: it cannot be written; the others are as they were.
    """
    remove_partial_files(folder)
    final = folder / f"{PREFIX}{step:08d}"
    with writing(final):
        if final.exists():
            # the step's state before its evaluation; a file, unlike a folder, takes another's place
            # in one go
            partial = final / f".partial-{FILE}"
            try:
                _write(partial, state)
                os.replace(partial, final / FILE)
            finally:
                partial.unlink(missing_ok=True)
        else:
            with new_folder(final) as partial:
                _write(partial / FILE, state)
    for old in sorted(folder.glob(f"{PREFIX}*"))[:-keep]:
        shutil.rmtree(old)
    return final


def _write(path: Path, state: dict) -> None:
    with open(path, "wb") as file:
        torch.save({**state, "format": FORMAT}, file)
        file.flush()
        os.fsync(file.fileno())


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path.parent for path in folder.glob(f"{PREFIX}*/{FILE}"))


def save_model(phase, folder: Path, describe: Callable[[Path], None] | None = None) -> None:
    """Writes what `phase.save_pretrained` writes, in place of what was in `folder`; draws no random
    number of the training's.

    Args:
        describe: writes more into that folder.

    Raises:
        OSError: it cannot be written; the folder is as it was.
    """
    with writing(folder), new_folder(folder) as partial, quiet_saving(), torch.random.fork_rng(devices=[]):
        phase.save_pretrained(partial)
        if describe is not None:
            describe(partial)


@contextmanager
def quiet_saving() -> Iterator[None]:
    """Keeps the progress bar that transformers shows for every file it writes out of the run's
    own."""
    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what a full disk or a closed folder makes the libraries raise into one OSError that
    names `path`."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = error
        while reason is not None and not isinstance(reason, (OSError, SafetensorError)):
            reason = reason.__cause__ or reason.__context__  # torch.save hides it behind a RuntimeError of its own
        if reason is None:
            raise
        reason = getattr(reason, "strerror", None) or reason
        raise OSError(
            f"{path} could not be written: {reason}; complete checkpoints are untouched, --resume goes on "
            "from the newest"
        ) from error


def load_checkpoint(path: Path) -> dict:
    """Reads a checkpoint onto the CPU; only tensors and plain values are admitted.

    Raises:
        ValueError: it is damaged, holds anything else, or was written by another version. The
            message offers the newest whole checkpoint before it.
    """
    file = path / FILE
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()  # torch itself does not compare the checksums
        if damaged is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        older = [other for other in list_checkpoints(path.parent) if other < path]
        advice = f"delete {path.name}, and --resume goes on from {older[-1].name}" if older else "start anew"
        # not torch's words, which may advise to run what the file stores
        reason = error if isinstance(error, zipfile.BadZipFile) else "it holds other than tensors and plain values"
        raise ValueError(f"{path} is damaged or no checkpoint ({reason}): {advice}") from error
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise ValueError(f"{path} was written by another version of this package: start anew in another folder")
    return state


def rng_state(device: torch.device) -> dict:
    """The random generators of this process as plain values and tensors: Python's, numpy's, torch's
    on the CPU and on the device."""
    kind, keys, *rest = np.random.get_state()
    state = {"python": random.getstate(), "numpy": [kind, keys.tolist(), *rest], "torch": torch.get_rng_state()}
    if device.type != "cpu":
        state[device.type] = torch.get_device_module(device).get_rng_state()
    return state


def restore_rng(state: dict, device: torch.device) -> None:
    """Sets what `rng_state` read.

    Raises:
        ValueError: it was read beside another kind of device.
    """
    there = [name for name in state if name not in ("python", "numpy", "torch")] or ["cpu"]
    if there != [device.type]:
        raise ValueError(
            f"the checkpoint was written on {there[0]} and this run is on {device.type}, which draws other "
            f"random numbers: resume on {there[0]}"
        )
    random.setstate(state["python"])
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[device.type])


def restore_module(module: nn.Module, state: dict, name: str) -> None:
    """Loads `state` into `module`, complete and of the same sizes.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape; nothing has been changed then.
    """
    own = module.state_dict()
    for key in {**own, **state}:
        if key not in state or key not in own:
            raise ValueError(
                f"the checkpoint does not fit the recipe: {name} "
                f"{'lacks' if key not in state else 'has the unknown tensor'} {key}"
            )
        if own[key].shape != state[key].shape:
            raise ValueError(
                f"the checkpoint does not fit the recipe: {name}.{key} has shape {tuple(state[key].shape)} "
                f"there and {tuple(own[key].shape)} here; "
                "resume with the recipe it was written with, or start in another folder"
            )
    module.load_state_dict(state)
