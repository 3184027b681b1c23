"""A recipe from data to saved model."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed

from ..data import Batches, Rows
from ..memory import keep_freed_memory
from . import loop
from .data import batch_maker, count_rows, load_splits
from .encoder_phase import EncoderPhase
from .gan_phase import GANPhase
from .log import check_tracker
from .preview import preview
from .recipe import EncoderRecipe, GANRecipe

EVALUATION_TIMEOUT = timedelta(hours=2)  # for which the other processes wait while one evaluates


def train(
    recipe: EncoderRecipe | GANRecipe,
    folder: Path,
    resume: bool = False,
    dry_run: bool = False,
    max_steps: int | None = None,
    tracker: str | None = None,
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto",
    push_to_hub: str | None = None,
) -> None:
    """Runs a recipe from data to saved model; see `loop.run` for what it leaves in `folder` and the
    errors it raises.

    Args:
        resume: go on from the newest checkpoint in `folder`, if it holds one.
        dry_run: only show what would be done (`preview`).
        max_steps: stop after so many steps of this call at the latest, with a checkpoint.
        tracker: also shows numbers and samples: "tensorboard" (files in `folder`), "wandb" or
            another one of accelerate.
        precision: see `choose_precision`.
        push_to_hub: also publish checkpoints and the finished model there; see `Uploads`.
    """
    check_tracker(tracker)
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; it must be at least 1")
    accelerator = Accelerator(
        mixed_precision=choose_precision(precision),
        gradient_accumulation_steps=recipe.gradient_accumulation,
        log_with=tracker,
        project_dir=folder,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=EVALUATION_TIMEOUT)],
    )
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("fp16 is for GPUs: a CPU would train in float32; use --mixed-precision bf16 or no")
    keep_freed_memory()
    phase, make_batches, rows = build_phase(recipe, accelerator)
    if dry_run:
        preview(phase, make_batches, recipe, accelerator, count_rows(rows), folder)
        return
    set_seed(recipe.seed + 1 + accelerator.process_index)  # networks start alike in all processes, noise differs
    loop.run(phase, make_batches, recipe, accelerator, folder, resume, max_steps, push_to_hub)


def build_phase(
    recipe: EncoderRecipe | GANRecipe, accelerator: Accelerator
) -> tuple[EncoderPhase | GANPhase, Callable[[dict | None], Batches], Rows]:
    """The phase that a recipe describes, with networks that are alike in all processes; what makes
    this process's training batches; and the training rows."""
    set_seed(recipe.seed)
    rows, held_out = load_splits(recipe)
    phase_class = EncoderPhase if isinstance(recipe, EncoderRecipe) else GANPhase
    phase = phase_class.from_recipe(recipe, accelerator, rows, held_out)
    share = (accelerator.process_index, accelerator.num_processes)
    make_batches = batch_maker(recipe, rows, phase.tokenizer, phase.image_sizes, accelerator.device, *share)
    return phase, make_batches, rows


def choose_precision(asked: Literal["auto", "no", "bf16", "fp16"]) -> str:
    """The precision networks run in: the one asked for or, with "auto", the launcher's or, where
    that says nothing or "no" (`accelerate launch` sets the latter unless told otherwise), bf16 on a
    GPU that has it and float32 elsewhere."""
    if asked != "auto":
        return asked
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched != "no":
        return launched
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 and not on_cpu else "no"
