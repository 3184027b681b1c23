"""Learning-rate schedules."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .recipe import Recipe


def lr_schedule(optimizer: Optimizer, recipe: Recipe) -> LambdaLR:
    """The recipe's schedule over its steps, as a factor on the optimiser's own rates."""
    if recipe.lr_schedule == "cosine":
        return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * min(step / recipe.steps, 1))) / 2)
    return LambdaLR(optimizer, lambda step: 1.0)
