"""Rows of a stream in a seeded order, read in small blocks, so that memory does not grow with the
data."""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Literal

import datasets
import numpy as np

from .loading import reading
from .pairing import Item, label_ids_of

SHARDS_AT_ONCE = 8
ROWS_OF_A_SHARD = 100


class StreamedRows:
    """Rows of an `IterableDataset` in the row schema: an item's `row` is the row itself, its image
    not decoded, with its `place` (shard, row in it).

    An epoch takes the shards (Parquet: row groups) in random order, `SHARDS_AT_ONCE` together; a
    block is the next `ROWS_OF_A_SHARD` rows of each, in random order. So rows that lie far apart
    meet, though the data is read in order, and at most one block is in memory.

    A process takes every n-th shard of an epoch's order, so that rows are disjoint across processes
    in an epoch. Where there are fewer shards than processes, every process reads all rows, as of
    data with random access. A position holds the place in the stream, not rows.

    Args:
        dataset: the stream, in its own fixed order.
        column: "label" or "labels", which rows pair on.
        seed: of the order.
        process_index, num_processes: which share of the rows this process takes.
        files: the Parquet files of the stream, if any, to say which of them cannot be read.

    Raises:
        ValueError: while iterating, a file that cannot be read; names its rows.
    """

    num_rows = None

    def __init__(
        self,
        dataset: datasets.IterableDataset,
        column: Literal["label", "labels"],
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
        files: Sequence[str] = (),
    ):
        self.dataset = dataset
        self.column = column
        self.seed = seed
        self.process_index = process_index
        self.num_processes = num_processes
        self.files = files
        self.divided = dataset.num_shards >= num_processes

    def epoch(
        self, number: int, start: tuple[int, int, int] | None = None
    ) -> Iterator[tuple[tuple[int, int, int], Item]]:
        """Yields ((group of shards, block in it, row in it), item); see `RowOrder`."""
        shards = np.random.default_rng([self.seed, number]).permutation(self.dataset.num_shards).tolist()
        if self.divided:
            shards = shards[self.process_index :: self.num_processes]
        first_group, first_block, first_row = (0, 0, 0) if start is None else (start[0], start[1], start[2] + 1)
        for group in range(first_group, -(-len(shards) // SHARDS_AT_ONCE)):
            opened = shards[group * SHARDS_AT_ONCE : (group + 1) * SHARDS_AT_ONCE]
            readers = [self._read(shard, first_block * ROWS_OF_A_SHARD) for shard in opened]
            for block in count(first_block):
                items = [item for reader in readers for item in islice(reader, ROWS_OF_A_SHARD)]
                if not items:
                    break
                order = np.random.default_rng([self.seed, number, group, block]).permutation(len(items)).tolist()
                for row in range(first_row, len(order)):
                    yield (group, block, row), items[order[row]]
                first_row = 0
            first_block = 0

    def _read(self, shard: int, skipped: int) -> Iterator[Item]:
        rows = self.dataset.shard(self.dataset.num_shards, shard)
        with reading("the stream of training rows", self.files):
            for number, row in enumerate(rows.skip(skipped) if skipped else rows, skipped):
                yield Item((shard, number), label_ids_of(row[self.column]), {**row, "place": (shard, number)})
