"""What a run would do and need, without training it."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from ..data import Batch, Batches, BrokenRowError, TrainingRows, evenly_spaced, to_pil
from ..data.loading import MEND
from ..figures import labelled_grid
from .recipe import Recipe

FIRST_BATCH = "first-batch.png"
MIB = 2**20
READ_ROWS = 10_000  # of the training data, at most: minutes, also where each is a large photo


def preview(
    phase,
    make_batches: Callable[[dict | None], Batches],
    recipe: Recipe,
    accelerator: Accelerator,
    num_rows: int | None,
    folder: Path,
) -> None:
    """Shows networks, memory, steps, precision, loss terms, and the first batch as a picture with
    its captions; reads all images of the evaluations and, where one broken row would stop the run,
    those of the training rows that have random access.

    Args:
        num_rows: of the training data; None = unknown.
        folder: where the picture goes; nothing else is written.

    Raises:
        BrokenRowError: a row that would stop the run.
    """
    batches = make_batches(None)
    micro_batches = list(islice(batches, accelerator.gradient_accumulation_steps))
    for held_out in filter(None, (phase.evaluation, phase.reference)):
        for _ in held_out.batches(64):  # a broken image would stop the first evaluation
            pass
    peak = measure_step(phase, micro_batches, accelerator.device)
    if not accelerator.is_main_process:
        return
    if not recipe.data.streaming and not recipe.data.max_broken_share:
        print(read_rows(batches.samples))
    networks = phase.networks() | phase.frozen_networks()
    for name, network in networks.items():
        count, trained = (
            sum(p.numel() for p in network.parameters() if p.requires_grad or not only) for only in (False, True)
        )
        print(f"{name:14} {count:>12,} parameters, {trained:>12,} trained, {stored_bytes(network) / MIB:>8,.1f} MiB")
    weights = sum(stored_bytes(network) for network in networks.values())
    gradients = sum(p.nbytes for network in networks.values() for p in network.parameters() if p.requires_grad)
    held = (
        f"weights {weights / MIB:,.1f} + gradients {gradients / MIB:,.1f} + Adam's moments {2 * gradients / MIB:,.1f}"
    )
    print(f"memory of each process: {(weights + 3 * gradients) / MIB:,.1f} MiB = {held}; {peak}")
    rows = recipe.batch_size * accelerator.gradient_accumulation_steps * accelerator.num_processes
    epochs = (
        f"{recipe.steps * rows / num_rows:.1f} epochs of {num_rows:,} rows"
        if num_rows
        else "a stream of unknown length"
    )
    print(f"{recipe.steps:,} steps of {rows:,} rows ({recipe.sampling}): {epochs}")
    print(
        f"precision: {'float32' if accelerator.mixed_precision == 'no' else accelerator.mixed_precision} on "
        f"{accelerator.device.type}"
    )
    print("terms: " + ", ".join(f"{weight:g} {name}" for name, weight in recipe.loss_weights.items()))
    batch = micro_batches[0]
    order = torch.arange(len(batch)).view(batch.num_views, -1).T.flatten().tolist()  # partners side by side
    folder.mkdir(parents=True, exist_ok=True)
    labelled_grid(
        [to_pil(batch.images[-1][row]) for row in order], [batch.captions[row] for row in order], columns=8
    ).save(folder / FIRST_BATCH)
    print(f"first batch: {folder / FIRST_BATCH}")


def read_rows(samples: TrainingRows) -> str:
    """Makes a sample of each training row or, of very many, of evenly spaced ones; says of which.

    Raises:
        BrokenRowError: names the first row of which none can be made, as training would.
    """
    chosen = evenly_spaced(len(samples), READ_ROWS)
    try:
        for number in tqdm(chosen, desc="reading training rows", unit="row", dynamic_ncols=True):
            samples[number, 0]
    except BrokenRowError as error:
        raise BrokenRowError(f"{error}; {MEND}") from None
    if len(chosen) == len(samples):
        return f"training rows: all {len(samples):,} can be read"
    return (
        f"training rows: {len(chosen):,} of {len(samples):,}, evenly spaced, can be read; a broken one among the "
        "others would stop the run"
    )


def measure_step(phase, micro_batches: list[Batch], device: torch.device) -> str:
    """The memory of one step, activations and all; the step is taken for this and thrown away."""
    if device.type != "cuda":
        return "activations not included (a dry run on a GPU measures them)"
    torch.cuda.reset_peak_memory_stats(device)
    phase.train_step(*micro_batches)
    peak, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    return f"with the activations of a step, measured: {peak / MIB:,.1f} of {total / MIB:,.1f} MiB"


def stored_bytes(network: nn.Module) -> int:
    return sum(x.nbytes for x in (*network.parameters(), *network.buffers()))
