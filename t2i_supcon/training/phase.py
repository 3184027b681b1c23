"""What the loop trains: the two phases have this face, and a step gives this result."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from ..data import Batch, EvaluationRows


@dataclass(frozen=True)
class StepResult:
    """What a step computed, scalars without graph.

    Attributes:
        terms: the loss terms, unweighted, by the names that recipes weigh them by.
        statistics: numbers to watch.
        gradient_norms: before clipping, by what was updated.
    """

    terms: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)
    gradient_norms: dict[str, Tensor] = field(default_factory=dict)

    def __or__(self, other: "StepResult") -> "StepResult":
        """Both together."""
        return StepResult(
            self.terms | other.terms,
            self.statistics | other.statistics,
            self.gradient_norms | other.gradient_norms,
        )

    def by_log_name(self) -> dict[str, Tensor]:
        """All numbers by the names that the log gives them."""
        statistics = {f"stats/{name}": value for name, value in self.statistics.items()}
        return self.terms | statistics | {f"grad_norm/{name}": norm for name, norm in self.gradient_norms.items()}


def mean_result(results: Sequence[StepResult]) -> StepResult:
    """The mean of each number over micro-batches, without graph."""

    def mean(collected: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([values[name].detach() for values in collected]).mean(dim=0) for name in collected[0]}

    return StepResult(mean([result.terms for result in results]), mean([result.statistics for result in results]))


class Phase(Protocol):
    """A training phase: it owns its networks and optimisers, and knows how to step and judge them.

    Attributes:
        step: updates made so far: the one counter of a run.
        image_sizes: sides of the images that a batch holds, from low to high.
        evaluation: held-out rows that it evaluates on, if any.
        reference: real training rows that stand beside them, if any.
    """

    step: int
    image_sizes: tuple[int, ...]
    evaluation: EvaluationRows | None
    reference: EvaluationRows | None

    def train_step(self, *micro_batches: Batch) -> StepResult:
        """One update of everything trained, by the mean gradient of the micro-batches.

        Raises:
            FloatingPointError: a term or a gradient is not finite; that update was not made.
        """

    def evaluate(self) -> dict[str, float]:
        """Numbers on held-out rows, by the names in the recipe's `metrics()` and others; called in
        all processes."""

    def report(self, first: dict[str, float], last: dict[str, float]) -> str:
        """Two evaluations in words, to print."""

    def samples(self) -> tuple[list[Image.Image], list[str]]:
        """A few pictures and what each shows."""

    def save_pretrained(self, folder: Path) -> None:
        """Writes what `from_pretrained` loads."""

    def networks(self) -> dict[str, nn.Module]:
        """What is trained, and averages that follow it."""

    def frozen_networks(self) -> dict[str, nn.Module]:
        """What is used as it is."""

    def state_dict(self) -> dict:
        """All that a resumed run needs, as tensors and plain values."""

    def load_state_dict(self, state: dict) -> None:
        """Goes on from such a state.

        Raises:
            ValueError: it belongs to other networks, and names the first difference.
        """
