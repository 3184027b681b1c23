"""How strongly each loss term of phase 2 pulls at the generated pictures, and which pull the same
way."""

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from tqdm import tqdm

from .checkpoint import list_checkpoints, load_checkpoint
from .data import batch_maker, load_splits
from .gan_phase import GANPhase
from .loop import CHECKPOINTS, RECIPE
from .recipe import GANRecipe, load_recipe


def show_gradients(run: Path, output: Path, batches: int = 8, overrides: Sequence[str] = ()) -> str:
    """Measures the gradient of each loss term by the generated pictures at a run's newest
    checkpoint, and writes `gradients.json` and `gradients.md` into `output`.

    A term whose gradient is many times the adversarial one's decides what the generator learns; two
    terms of a cosine near 1 ask for the same.

    Args:
        run: what `scripts/train.py` left of phase 2.
        batches: of training rows, over which numbers are averaged.
        overrides: changes to the run's recipe, such as where its encoders lie now.

    Returns:
        A table: of each term its weight, the norm of its weighted gradient by the final images of a
        batch, and the cosines of the gradients.

    Raises:
        ValueError, OSError: no such run, no checkpoint in it, or one of another recipe; nothing is
            written then.
    """
    if batches < 1:
        raise ValueError(f"batches is {batches}; it must be at least 1")
    if not isinstance(load_recipe(str(run / RECIPE)), GANRecipe):
        raise ValueError(f"{run} is a run of phase 1: only in phase 2 do loss terms pull at generated pictures")
    recipe = load_recipe(str(run / RECIPE), None, ["evaluation.features=null", "best_metric=null", *overrides])
    newest = next(reversed(list_checkpoints(run / CHECKPOINTS)), None)
    if newest is None:
        raise FileNotFoundError(f"{run / CHECKPOINTS} holds no checkpoint")
    state = load_checkpoint(newest)
    accelerator = Accelerator()
    set_seed(recipe.seed)
    rows, held_out = load_splits(recipe)
    phase = GANPhase.from_recipe(recipe, accelerator, rows, held_out)
    phase.load_state_dict(state["phase"])
    make_batches = batch_maker(recipe, rows, phase.tokenizer, phase.image_sizes, accelerator.device)
    norms, cosines = defaultdict(list), defaultdict(list)
    for batch in tqdm(islice(make_batches(None), batches), total=batches, unit="batch", dynamic_ncols=True):
        gradients = {name: gradient.flatten() for name, gradient in phase.image_gradients(batch).items()}
        for name, gradient in gradients.items():
            norms[name].append(gradient.norm().item())
            for other, second in gradients.items():
                cosines[name, other].append(torch.cosine_similarity(gradient, second, dim=0).item())
    mean = {name: sum(values) / batches for name, values in norms.items()}
    cosine = {name: {other: sum(cosines[name, other]) / batches for other in mean} for name in mean}
    lines = [f"| | weight | norm | {' | '.join(f'cosine with {name}' for name in mean)} |"]
    lines.append("|---" * (len(mean) + 3) + "|")
    for name, norm in mean.items():
        row = " | ".join(f"{cosine[name][other]:.2f}" for other in mean)
        lines.append(f"| {name} | {recipe.loss_weights[name]:g} | {norm:.3f} | {row} |")
    table = "\n".join(lines)
    numbers = {"step": phase.step, "batches": batches, "rows": recipe.batch_size, "norms": mean, "cosines": cosine}
    output.mkdir(parents=True, exist_ok=True)
    (output / "gradients.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (output / "gradients.md").write_text(table + "\n", encoding="utf-8")
    return table
