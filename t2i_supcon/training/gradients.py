"""How strongly each loss term of phase 2 pulls at the generated pictures, and which pull the same
way."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import mean

import torch
from accelerate import Accelerator
from torch.nn import functional as F
from tqdm import tqdm

from .checkpoint import list_checkpoints, load_checkpoint
from .loop import CHECKPOINTS, RECIPE
from .optimisation import term_weights
from .recipe import GANRecipe, load_recipe
from .train import build_phase


def show_gradients(run: Path, output: Path, batches: int = 8, overrides: Sequence[str] = ()) -> str:
    """Measures the gradient of each loss term by the generated pictures at a run's newest
    checkpoint, and writes `gradients.json` and `gradients.md` into `output`.

    A term whose gradient is many times the adversarial one's decides what the generator learns; two
    terms of a cosine near 1 ask for the same. Where drawn pictures have a smaller value than the
    real ones of the same rows, they please the encoders better than real pictures do, and the term
    has little left to teach.

    Args:
        run: what `scripts/train.py` left of phase 2.
        batches: of training rows, over which numbers are averaged.
        overrides: changes to the run's recipe, such as where its encoders lie now.

    Returns:
        A table: of each term its weight, its value for drawn and, where the encoders give it, for
        real pictures, the norm of its weighted gradient by the final images of a batch, and the
        cosines of the gradients.

    Raises:
        ValueError, OSError: no such run, no checkpoint in it, or one of another recipe; nothing is
            written then.
    """
    if batches < 1:
        raise ValueError(f"batches is {batches}; it must be at least 1")
    recipe = load_recipe(str(run / RECIPE), overrides=list(overrides))
    if not isinstance(recipe, GANRecipe):
        raise ValueError(f"{run} is a run of phase 1: only in phase 2 do loss terms pull at generated pictures")
    newest = next(reversed(list_checkpoints(run / CHECKPOINTS)), None)
    if newest is None:
        raise FileNotFoundError(f"{run / CHECKPOINTS} holds no checkpoint")
    state = load_checkpoint(newest)
    unjudged = replace(recipe, evaluation=replace(recipe.evaluation, features=None), best_metric=None)
    phase, make_batches, _ = build_phase(unjudged, Accelerator())
    phase.load_state_dict(state["phase"])
    norms, cosines = [], []
    drawn, real = defaultdict(list), defaultdict(list)
    for batch in tqdm(islice(make_batches(None), batches), total=batches, unit="batch", dynamic_ncols=True):
        pulls = phase.term_pulls(batch)
        for name, pull in pulls.items():
            drawn[name].append(pull.drawn)
            if pull.real is not None:
                real[name].append(pull.real)
        stacked = torch.stack([pull.gradient.flatten() for pull in pulls.values()])
        directions = F.normalize(stacked, dim=1)
        norms.append(stacked.norm(dim=1))
        cosines.append(directions @ directions.T)
    names, weights = list(pulls), term_weights(recipe, phase.step)
    norm, cosine = (torch.stack(values).mean(dim=0).tolist() for values in (norms, cosines))
    drawn, real = ({name: mean(values) for name, values in found.items()} for found in (drawn, real))
    cosines_with = " | ".join(f"cosine with {name}" for name in names)
    lines = [f"| | weight | value, drawn | value, real | norm | {cosines_with} |"]
    lines.append("|---" * (len(names) + 5) + "|")
    for name, length, row in zip(names, norm, cosine):
        values = f"{drawn[name]:.3f} | {f'{real[name]:.3f}' if name in real else ''}"
        cells = " | ".join(f"{value:.2f}" for value in row)
        lines.append(f"| {name} | {weights[name]:g} | {values} | {length:.3f} | {cells} |")
    table = "\n".join(lines)
    numbers = {
        "step": phase.step,
        "batches": batches,
        "rows": recipe.batch_size,
        "drawn": drawn,
        "real": real,
        "norms": dict(zip(names, norm)),
        "cosines": {name: dict(zip(names, row)) for name, row in zip(names, cosine)},
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "gradients.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (output / "gradients.md").write_text(table + "\n", encoding="utf-8")
    return table
