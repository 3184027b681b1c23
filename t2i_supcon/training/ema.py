"""An averaged copy of a network."""

import copy

import torch
from torch import nn


class EMA:
    """Exponential moving average: parameters are averaged, buffers copied (as AttnGAN saves its
    generator).

    Args:
        module: the network to follow.
        decay: share of the average kept at each update, in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay is {decay}; it must be in [0, 1)")
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes one step towards `module`."""
        averaged, live = list(self.module.parameters()), list(module.parameters())
        torch._foreach_lerp_(averaged, live, 1 - self.decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers()):
            mine.copy_(theirs)
