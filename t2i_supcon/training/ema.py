"""An averaged copy of a network."""

import copy

import torch
from torch import nn


class EMA:
    """Exponential moving average: parameters are averaged, buffers copied (as AttnGAN saves its
    generator).

    The average is kept in float32 at least, whatever precision the network's weights have: in
    bfloat16, a step of 1 - decay = 0.001 of the way would be rounded to none.

    Args:
        module: the network to follow.
        decay: share of the average kept at each update, in [0, 1).

    Attributes:
        module: the average, a network of its own in evaluation mode.

    Raises:
        ValueError: a decay outside its range.
    """

    def __init__(self, module: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay is {decay}; it must be in [0, 1)")
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.is_floating_point():
                tensor.data = tensor.to(torch.promote_types(tensor.dtype, torch.float32))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes one step towards `module`."""
        averaged = list(self.module.parameters())
        live = [theirs.to(mine.dtype) for mine, theirs in zip(averaged, module.parameters())]
        torch._foreach_lerp_(averaged, live, 1 - self.decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers()):
            mine.copy_(theirs)
