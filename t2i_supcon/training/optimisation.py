"""What the two phases do alike with an optimiser: learning rates, and one checked step."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer

from .distributed import average_gradients, mean_over_processes
from .phase import StepResult
from .recipe import Recipe


def rate_factor(recipe: Recipe, step: int) -> float:
    """What the recipe's schedule multiplies learning rates with after `step` steps, in [0, 1]."""
    if recipe.lr_schedule == "cosine":
        return (1 + math.cos(math.pi * min(step / recipe.steps, 1))) / 2
    if recipe.lr_schedule == "exponential":
        return _decayed(step // recipe.lr_decay_every)
    return 1.0


def term_weights(recipe: Recipe, step: int) -> dict[str, float]:
    """The recipe's weights of the loss terms after `step` steps: that of `supcon` warms up."""
    weights = recipe.loss_weights
    if "supcon" not in weights or step >= recipe.supcon_warmup:
        return weights
    return weights | {"supcon": weights["supcon"] * step / recipe.supcon_warmup}


def _decayed(times: int) -> float:
    """0.98 to the power of `times`, held once it is at or below a tenth.

    The last decay of AttnGAN's authors may undershoot it.
    """
    return 0.98 ** min(times, math.ceil(math.log(0.1, 0.98)))


def set_rates(optimizer: Optimizer, learning_rate: float, betas: tuple[float, float]) -> None:
    """Gives an Adam its rate and betas: those of the recipe, whatever a checkpoint brought."""
    for group in optimizer.param_groups:
        group["lr"], group["betas"] = learning_rate, tuple(betas)


def check_micro_batches(batches: Sequence, accelerator: Accelerator) -> None:
    """Raises ValueError for another number of micro-batches than `accelerator.backward` divides
    gradients by."""
    if len(batches) != accelerator.gradient_accumulation_steps:
        raise ValueError(
            f"{len(batches)} micro-batches for one step; "
            f"gradient_accumulation is {accelerator.gradient_accumulation_steps}"
        )


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Sum of the terms times their weights.

    Raises:
        KeyError: a term without a weight, which should not have been computed.
    """
    return sum(weights[name] * term for name, term in terms.items())


def trained_parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    """All that it steps."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def take_step(
    accelerator: Accelerator,
    optimizer: Optimizer,
    result: StepResult,
    name: str,
    step: int,
    bounds: Iterable[tuple[Iterable[nn.Parameter], float | None]] = (),
) -> StepResult:
    """One update by the gradients there are, averaged over the processes, unless something went
    wrong.

    Args:
        result: this process's terms and statistics, which must be finite.
        name: of what is updated.
        step: steps taken before this one.
        bounds: parameters and the norm that their joint gradient is clipped to; None = not at all.

    Returns:
        `result` averaged over the processes, with the norm of the gradient before clipping. Under
        fp16 its statistics also hold the scale of the gradients, and whether it was too large for
        this update, which was skipped then.

    Raises:
        FloatingPointError: names the first number that is not finite; nothing has been updated.
    """
    parameters = [p for p in trained_parameters(optimizer) if p.grad is not None]
    average_gradients(parameters)
    accelerator.unscale_gradients(optimizer)
    result = StepResult(
        mean_over_processes(result.terms),
        mean_over_processes(result.statistics),
        {name: get_total_norm([p.grad for p in parameters])},
    )
    _check_finite(result, step, accelerator)
    for bounded, bound in bounds:
        if bound is not None:
            clip_grad_norm_(bounded, bound)
    optimizer.step()
    if accelerator.scaler is None:
        return result
    scale, skipped = accelerator.scaler.get_scale(), float(optimizer.step_was_skipped)
    scaling = {"gradient_scale": torch.tensor(scale), f"skipped_{name}": torch.tensor(skipped)}
    return replace(result, statistics=result.statistics | scaling)


def _check_finite(result: StepResult, step: int, accelerator: Accelerator) -> None:
    values = result.by_log_name()
    finite = torch.stack([value.float() for value in values.values()]).isfinite().tolist()  # the one wait for the GPU
    wrong = [name for name, fine in zip(values, finite) if not fine]
    # in fp16 the gradient scaler skips a step whose gradients overflow, and scales down
    only_gradients = all(value.isfinite() for value in (result.terms | result.statistics).values()) if wrong else True
    scaler = accelerator.scaler
    if wrong and not (only_gradients and scaler is not None and scaler.get_scale() >= 1):
        raise FloatingPointError(f"step {step + 1}: {wrong[0]} is {float(values[wrong[0]])}; the update was not made")
