"""Training of both phases."""

from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from ..data import Batch, BatchSampler, Collator, TrainingRows, check_captions, load_rows
from . import loop
from .encoder_phase import EncoderPhase
from .evaluation import evenly_spaced
from .gan_phase import GANPhase
from .recipe import EncoderRecipe, GANRecipe, load_recipe

__all__ = ["EncoderPhase", "EncoderRecipe", "GANPhase", "GANRecipe", "load_recipe", "train"]


def train(recipe: EncoderRecipe | GANRecipe, folder: Path, resume: bool = False, dry_run: bool = False) -> None:
    """Runs a recipe from data to saved model; see `loop.run` for what it leaves in `folder` and the errors it raises.

    Args:
        resume: go on from the newest checkpoint in `folder`, if it holds one.
        dry_run: only show what would be done (`loop.preview`).
    """
    accelerator = Accelerator()
    torch.manual_seed(recipe.seed)
    rows, held_out = load_rows(recipe.data.name, "train"), load_rows(recipe.data.name, "test")
    if recipe.eval_rows is not None:
        held_out = held_out.select(evenly_spaced(len(held_out), recipe.eval_rows))
    check_captions(rows)
    phase_class = EncoderPhase if isinstance(recipe, EncoderRecipe) else GANPhase
    phase = phase_class.from_recipe(recipe, accelerator, rows, held_out)
    pairs = recipe.sampling == "pairs"
    samples = TrainingRows(
        rows, phase.tokenizer, phase.image_sizes, recipe.seed, recipe.data.random_crop, recipe.data.flip, recipe.data.long_captions
    )
    num_classes = None if recipe.positives == "label" else rows.features["label"].num_classes
    labels = [-1 if label is None else label for label in rows["label"]]

    def make_batches(start: int) -> DataLoader[Batch]:
        sampler = BatchSampler(labels, recipe.batch_size, recipe.seed, pairs, accelerator.process_index, accelerator.num_processes, start)
        collate = Collator(2 if pairs else 1, num_classes)
        return DataLoader(
            samples,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=recipe.data.workers,
            pin_memory=accelerator.device.type == "cuda",
            generator=torch.Generator(),  # of its own, so that starting a loader draws nothing from the training's random numbers
        )

    if dry_run:
        loop.preview(phase, make_batches, recipe, len(rows), folder)
        return
    torch.manual_seed(recipe.seed + 1 + accelerator.process_index)  # networks start alike in all processes, noise differs
    loop.run(phase, make_batches, recipe, accelerator, folder, resume)
