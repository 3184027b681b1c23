"""What the two phases do alike with an optimiser: learning rates, networks made ready, and one
checked step."""

import math
from collections.abc import Iterable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .distributed import average_gradients, mean_over_processes
from .recipe import Recipe


def lr_schedule(optimizer: Optimizer, recipe: Recipe) -> LambdaLR:
    """The recipe's schedule over its steps, as a factor on the optimiser's own rates."""
    if recipe.lr_schedule == "cosine":
        return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * min(step / recipe.steps, 1))) / 2)
    if recipe.lr_schedule == "exponential":
        return LambdaLR(optimizer, lambda step: _decayed(step // recipe.lr_decay_every))
    return LambdaLR(optimizer, lambda step: 1.0)


def _decayed(times: int, factor: float = 0.98, floor: float = 0.1) -> float:
    """`factor` to the power of `times`, held once it is at or below `floor`: the last decay of
    AttnGAN's authors may undershoot it."""
    last = math.ceil(math.log(floor) / math.log(factor))
    return factor ** min(times, last)


def check_micro_batches(batches: Sequence, accelerator: Accelerator) -> None:
    """Raises ValueError for another number of micro-batches than `accelerator.backward` divides
    gradients by."""
    if len(batches) != accelerator.gradient_accumulation_steps:
        raise ValueError(
            f"{len(batches)} micro-batches for one step; gradient_accumulation is "
            f"{accelerator.gradient_accumulation_steps}"
        )


def mean_values(collected: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each scalar over micro-batches, without graph."""
    return {name: torch.stack([values[name].detach() for values in collected]).mean(dim=0) for name in collected[0]}


def trained_parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    """All that it steps."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def take_step(
    accelerator: Accelerator,
    optimizer: Optimizer,
    values: dict[str, Tensor],
    name: str,
    step: int,
    bounds: Iterable[tuple[Iterable[nn.Parameter], float | None]] = (),
) -> dict[str, Tensor]:
    """One update by the gradients there are, averaged over the processes, unless something went
    wrong.

    Args:
        values: scalars of this process, loss terms first, that must be finite.
        name: of what is trained.
        step: steps taken before this one.
        bounds: parameters and the norm that their joint gradient is clipped to; None = not at all.

    Returns:
        `values` averaged over the processes, and the norm of the gradient before clipping as
        `grad_norm/{name}`; under fp16 also the scale of
        the gradients and whether it was too large for this update, which was skipped then.

    Raises:
        FloatingPointError: names the first of these that is not finite; nothing has been updated.
    """
    parameters = [p for p in trained_parameters(optimizer) if p.grad is not None]
    average_gradients(parameters)
    accelerator.unscale_gradients(optimizer)
    values = mean_over_processes(values) | {f"grad_norm/{name}": get_total_norm([p.grad for p in parameters])}
    _check_finite(values, step, accelerator)
    for bounded, bound in bounds:
        if bound is not None:
            clip_grad_norm_(bounded, bound)
    optimizer.step()
    if accelerator.scaler is not None:
        scale, skipped = accelerator.scaler.get_scale(), float(optimizer.step_was_skipped)
        values |= {"stats/gradient_scale": torch.tensor(scale), f"stats/skipped_{name}": torch.tensor(skipped)}
    return values


def _check_finite(values: dict[str, Tensor], step: int, accelerator: Accelerator) -> None:
    finite = (
        torch.stack([value.float() for value in values.values()]).isfinite().tolist()
    )  # the one wait for the device
    wrong = [name for name, fine in zip(values, finite) if not fine]
    overflow = all(
        name.startswith("grad_norm/") for name in wrong
    )  # in fp16 the gradient scaler skips such a step and scales down
    if wrong and not (overflow and accelerator.scaler is not None and accelerator.scaler.get_scale() >= 1):
        raise FloatingPointError(f"step {step + 1}: {wrong[0]} is {float(values[wrong[0]])}; the update was not made")
