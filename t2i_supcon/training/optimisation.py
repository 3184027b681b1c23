"""Learning-rate schedules."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .recipe import Recipe


def lr_schedule(optimizer: Optimizer, recipe: Recipe) -> LambdaLR:
    """The recipe's schedule over its steps, as a factor on the optimiser's own rates."""
    if recipe.lr_schedule == "cosine":
        return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * min(step / recipe.steps, 1))) / 2)
    if recipe.lr_schedule == "exponential":
        return LambdaLR(optimizer, lambda step: _decayed(step // recipe.lr_decay_every))
    return LambdaLR(optimizer, lambda step: 1.0)


def _decayed(times: int, factor: float = 0.98, floor: float = 0.1) -> float:
    """`factor` to the power of `times`, held once it is at or below `floor`: the last decay of AttnGAN's authors may undershoot it."""
    last = math.ceil(math.log(floor) / math.log(factor))
    return factor ** min(times, last)
