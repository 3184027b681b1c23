"""Batches of label pairs for any data and any training loop.

The method wants each row beside another one of its label. `LabelPairs` arranges this for data with
random access, `LabelPairStream` for anything that can be iterated. Both draw a sequence that
depends on the seed alone, use every row once an epoch, and divide it over processes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import datasets
from torch.utils.data import IterableDataset, get_worker_info

from .data.pairing import BatchSampler, IndexedRows, Item, label_ids_of, plain
from .processes import num_processes, process_index


class LabelPairs:
    """Batches of row numbers that hold pairs by label: the `batch_sampler` of a torch `DataLoader`
    over any dataset with random access.

    A batch of B is B/2 rows and behind them their partners in the same order (view-major), so that
    `batch.chunk(2)` gives both. Batches have no end; each epoch brings every row once, in a new
    order, and a row left without partner at its end waits for one in the next. Rows whose labels no
    other row has are never drawn, which is logged. Unlabelled rows pair with each other.

    Example:
        pairs = LabelPairs(dataset["label"], batch_size=32)
        loader = DataLoader(dataset, batch_sampler=pairs)
        for step, batch in zip(range(10_000), loader): ...

    Args:
        labels: of each row a label id, or all of its several ids; none, None or a negative one =
            unlabelled.
        batch_size: rows of one process's batch; even.
        seed: of the order and of the label that a row with several pairs on.
        start: number of batches that were used already; goes on behind them.
        processes: (index, number) of the processes; by default those of `torch.distributed`. Each
            takes every n-th batch of one sequence; where something else divides the batches of a
            loader, as accelerate's `prepare` does, give (0, 1).

    Raises:
        ValueError: an odd batch size, or no two rows that share a label.
    """

    def __init__(
        self,
        labels: Iterable[int | None | Sequence[int]],
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        processes: tuple[int, int] | None = None,
    ):
        self.batch_size = batch_size
        self.start = start
        index, number = processes or (process_index(), num_processes())
        self._batches = BatchSampler(IndexedRows(plain(labels), seed), batch_size, seed, True, index, number)

    def __iter__(self) -> Iterator[list[int]]:
        for number, batch in enumerate(self._batches):
            self._batches.states.clear()
            if number >= self.start:
                yield [row for row, _ in batch]


class LabelPairStream(IterableDataset):
    """Batches of rows that hold pairs by label, of data that can only be iterated, such as a
    streaming `datasets.IterableDataset`.

    A row waits until the next one of its label comes, so that at most one row per label is in
    memory, whatever the size of the data. Batches are lists of rows as `LabelPairs` orders them,
    without end; the data is iterated anew for each epoch. Processes, and the workers of a loader,
    each take every n-th row.

    Example:
        stream = LabelPairStream(rows, label=lambda row: row["label"], batch_size=32)
        loader = DataLoader(stream, batch_size=None, collate_fn=collate)

    Args:
        rows: gives the rows anew each time it is iterated.
        label: of a row its label id, or all of its several ids; see `LabelPairs`.
        batch_size: rows of a batch; even.
        seed: of the label that a row with several pairs on. The order is that of `rows`: shuffle
            there.
        key: of a row what tells it from every other, so that it is not paired with its own copy of
            the next epoch; by default its place, for rows that come in one order.

    Raises:
        ValueError: an odd batch size; while iterating, data without any pair.
    """

    divided = True  # see `RowOrder`, which this is
    num_rows = None

    def __init__(
        self,
        rows: Iterable[Any],
        label: Callable[[Any], int | None | Sequence[int]],
        batch_size: int,
        seed: int = 0,
        key: Callable[[Any], Any] | None = None,
    ):
        super().__init__()
        self.rows = rows
        self.label = label
        self.batch_size = batch_size
        self.seed = seed
        self.key = key
        BatchSampler(self, batch_size, seed, True)  # refuses an odd batch size now

    def __iter__(self) -> Iterator[list[Any]]:
        sampler = BatchSampler(self, self.batch_size, self.seed, True, *self._share())
        for batch in sampler:
            sampler.states.clear()
            yield [row for row, _ in batch]

    def epoch(self, number: int, start: int | None = None) -> Iterator[tuple[int, Item]]:
        """Yields (place, item): each row of this process's and worker's share once."""
        index, shares = self._share()
        for place, row in enumerate(self._all_rows()):
            if place % shares == index and (start is None or place > start):
                key = place if self.key is None else self.key(row)
                yield place, Item(key, label_ids_of(self.label(row)), row)

    def _all_rows(self) -> Iterable[Any]:
        """The rows, undivided: single ones of a stream of `datasets` are divided over the workers
        of a loader by `datasets` already, and batches of them are not."""
        if not isinstance(self.rows, datasets.IterableDataset):
            return self.rows
        return ({name: values[0] for name, values in one.items()} for one in self.rows.iter(batch_size=1))

    def _share(self) -> tuple[int, int]:
        worker = get_worker_info()
        workers = 1 if worker is None else worker.num_workers
        return process_index() * workers + (0 if worker is None else worker.id), num_processes() * workers
