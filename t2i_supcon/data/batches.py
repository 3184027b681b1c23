"""The batches a process trains on, with a state to resume from."""

import logging
import signal
from collections.abc import Iterator
from functools import partial

import torch
from torch.utils.data import DataLoader

from .collate import Batch, Collator
from .loading import MEND, TrainingRows
from .pairing import BatchSampler
from .transforms import BrokenRowError, or_error

logger = logging.getLogger(__name__)
FIRST_ROWS = 1000  # over which broken rows may gather: shares of fewer rows say little


class Batches:
    """Endless batches of this process, images in [-1, 1], the same for any number of workers.

    Pairs are made here, in the process that trains; workers decode images and tokenize captions.

    Args:
        samples: the rows.
        sampler: the order of the rows.
        collate: makes the batch.
        device: where batches go.
        workers: processes that prepare batches; 0 = this one.
        max_broken_share: share of the rows read (of the first 1,000 at least) that may be broken.
            Each is logged and counted.
        state: from `state_dict`, to resume.
        data_id: tells this data from other data; a state is of no use for any other.

    Raises:
        ValueError: the state comes from other data, another seed or another kind of batches.
        BrokenRowError: while iterating, more broken rows than allowed.
    """

    def __init__(
        self,
        samples: TrainingRows,
        sampler: BatchSampler,
        collate: Collator,
        device: torch.device | str = "cpu",
        workers: int = 0,
        max_broken_share: float = 0.0,
        state: dict | None = None,
        data_id: str = "",
    ):
        self.samples = samples
        self.sampler = sampler
        self.data_id = data_id
        self.device = device
        self.max_broken_share = max_broken_share
        self.rows, self.broken = (0, 0) if state is None else (state["rows"], state["broken"])
        self._state = None if state is None else state["sampler"]
        self._check(state)
        self._loader = DataLoader(
            samples,
            batch_sampler=sampler,
            collate_fn=partial(or_error, collate),
            num_workers=workers,
            pin_memory=torch.device(device).type == "cuda",
            worker_init_fn=ignore_signals if workers else None,
            generator=torch.Generator(),  # its own: starting a loader draws none of the training's random numbers
        )

    def __iter__(self) -> Iterator[Batch]:
        self.sampler.state = self._state
        for batch in self._loader:
            if isinstance(batch, BrokenRowError):
                raise batch
            self._state = self.sampler.states.popleft()
            self.rows += len(batch)
            self._count_broken(batch)
            yield batch.to(self.device)

    def _count_broken(self, batch: Batch) -> None:
        self.broken += len(batch.broken)
        for what in batch.broken:
            logger.warning("row skipped, number %d of %d read: %s", self.broken, self.rows, what)
        if batch.broken and self.max_broken_share == 0:
            raise BrokenRowError(f"{batch.broken[0]}; {MEND}")
        if self.broken > self.max_broken_share * max(self.rows, FIRST_ROWS):
            raise BrokenRowError(
                f"{self.broken} broken rows among {self.rows}, more than data.max_broken_share "
                f"{self.max_broken_share:g} allows; "
                f"the last: {batch.broken[-1]}"
            )

    def state_dict(self) -> dict:
        """What resumes behind the batch last handed out: plain values and, of a stream, the few
        rows that wait for a partner."""
        return {"sampler": self._state, "rows": self.rows, "broken": self.broken, "made_of": self._made_of()}

    def _made_of(self) -> dict:
        """What a place in the order of the rows has a meaning for."""
        sampler, number = self.sampler, self.sampler.order.num_rows
        size = "a stream" if number is None else f"{number:,} rows"
        return {
            "data": f"{size}, {self.data_id}" if self.data_id else size,
            "sampling": "pairs" if sampler.pairs else "captions" if sampler.twice else "independent",
            "seed": sampler.seed,
        }

    def _check(self, state: dict | None) -> None:
        for name, here in self._made_of().items():
            if state is not None and (there := state.get("made_of", {}).get(name, "not recorded")) != here:
                raise ValueError(
                    f"the checkpoint does not fit the recipe: {name} was {there} there and is {here} here; "
                    "resume with what it was then"
                )


def ignore_signals(worker: int) -> None:
    """Leaves it to the training process to stop: Ctrl-C and a launcher's SIGTERM reach its workers
    too, which it still needs for the last step."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
