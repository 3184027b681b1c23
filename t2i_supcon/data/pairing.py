"""Pairs of rows that share a label, and the batches made of them."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import TypeVar

import numpy as np

logger = logging.getLogger(__name__)
Row = TypeVar("Row", bound=Hashable)


def pair_rows(rows: Iterable[Row], label_of: Callable[[Row], int]) -> Iterator[tuple[Row, Row]]:
    """Pairs each row with the next one of its label; a row waits until that one comes and never meets itself.

    Memory is bounded by the number of labels as long as each label has two different rows: of one label, only copies of a single row can wait.
    """
    waiting: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        queue = waiting[label_of(row)]
        if queue and queue[0] != row:
            yield queue.pop(0), row
        else:
            queue.append(row)


class BatchSampler:
    """Endless batches of (row number, number of the draw) over data with random access.

    Each epoch passes every row once in a new random order. With `pairs`, batches hold B/2 pairs view-major: all first halves, then their
    partners in the same order. Rows left without a partner at an epoch's end meet one in the next. A label with a single row can never
    make a pair: its row is skipped, counted in `skipped` and logged. Unlabelled rows (negative label) pair with each other.

    The sequence depends on the seed alone; process p of n takes every n-th batch, and `start` resumes at any batch.

    Args:
        labels: class id of each row.
        batch_size: rows per batch of one process; even for pairs.
        seed: of the order.
        pairs: label pairs, or else independent rows.
        process_index, num_processes: which share of the batches this process takes.
        start: batches of this process to pass over.

    Raises:
        ValueError: an odd batch size for pairs, or data without any pair.
    """

    def __init__(
        self, labels: Sequence[int], batch_size: int, seed: int, pairs: bool, process_index: int = 0, num_processes: int = 1, start: int = 0
    ):
        if pairs and batch_size % 2:
            raise ValueError(f"batch_size is {batch_size}; pairs need an even number of rows")
        self.labels = list(labels)
        self.batch_size = batch_size
        self.seed = seed
        self.pairs = pairs
        self.process_index = process_index
        self.num_processes = num_processes
        self.start = start
        self.rows = np.arange(len(self.labels))
        self.skipped = 0
        if pairs:
            counts = Counter(self.labels)
            alone = [label for label, n in counts.items() if n == 1]
            self.rows = np.array([row for row in self.rows if counts[self.labels[row]] > 1], dtype=int)
            self.skipped = len(alone)
            if alone:
                logger.warning("%d rows are the only one of their label and are skipped: they have no partner (labels %s)", len(alone), sorted(alone))
        if len(self.rows) == 0:
            raise ValueError("no two rows share a label: there is no pair to train on" if pairs else "the data has no row")

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first = self.start * self.num_processes + self.process_index
        for number, batch in islice(enumerate(self._all_batches()), first, None, self.num_processes):
            yield [(row, number * self.batch_size + position) for position, row in enumerate(batch)]

    def _all_batches(self) -> Iterator[list[int]]:
        stream = self._endless_rows()
        if not self.pairs:
            while True:
                yield list(islice(stream, self.batch_size))
        pairs = pair_rows(stream, self.labels.__getitem__)
        while True:
            first, second = zip(*islice(pairs, self.batch_size // 2))
            yield [*first, *second]

    def _endless_rows(self) -> Iterator[int]:
        for epoch in count():
            yield from np.random.default_rng([self.seed, epoch]).permutation(self.rows).tolist()
