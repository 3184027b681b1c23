"""The precision that all losses share."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(loss: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a loss: computes it in float32, whatever autocast the caller is in and whatever
    its tensors are, and in float64 where one of these is.

    Autocast would take a loss's matrix products in half precision, also those of float32 tensors.
    Only tensors given as arguments are converted, none inside tuples. The backward pass takes the
    precision of where it is called: leave autocast first, as torch advises.

    Raises:
        ValueError: (by the loss) not one argument is a tensor.
    """

    @functools.wraps(loss)
    def in_full_precision(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if not tensors:
            raise ValueError(f"{loss.__name__} needs torch tensors, not {', '.join(type(a).__name__ for a in args)}")
        dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32

        def convert(value):
            return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        with torch.autocast(tensors[0].device.type, enabled=False):
            return loss(*map(convert, args), **{name: convert(value) for name, value in kwargs.items()})

    return in_full_precision
