"""Pairs of rows that share a label, and the batches made of them, over data with random access and
over streams."""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple, Protocol

import numpy as np

logger = logging.getLogger(__name__)

UNLABELLED = -1
CHANCES = 16  # per process, that two rows of one label get to meet: all are missed once in 10^7


class Item(NamedTuple):
    """A row on its way into a batch.

    Attributes:
        key: tells one row of the data from another.
        label_ids: what the row may pair on; empty = unlabelled.
        row: what the batch gets.
    """

    key: Any
    label_ids: tuple[int, ...]
    row: Any


def label_ids_of(value: int | None | Sequence[int]) -> tuple[int, ...]:
    """The ids in a row's `label` or `labels`, without the negative ones that say there is none."""
    value = plain(value)
    ids = (value,) if value is None or isinstance(value, int) else value
    return tuple(label_id for label_id in ids if label_id is not None and label_id >= 0)


def plain(labels: Any) -> Any:
    """Tensors and arrays as numbers and lists."""
    return labels.tolist() if hasattr(labels, "tolist") else labels


class RowOrder(Protocol):
    """Rows of a dataset in the seeded random order of each epoch: `IndexedRows` or `StreamedRows`.

    Attributes:
        divided: its rows are this process's share already; otherwise every process sees all of
            them.
        num_rows: how many rows an epoch passes at most; None where nobody has counted them, of a
            stream.
    """

    divided: bool
    num_rows: int | None

    def epoch(self, number: int, start: Any = None) -> Iterator[tuple[Any, Item]]:
        """Yields (position, item): each row once. `start`, the position of the last row already
        seen, resumes behind it."""


class IndexedRows:
    """Rows with random access: an item's `row` is its number.

    With `pairs`, a label of a single row can never make a pair. It is not paired on, and a row
    without any other label is skipped, counted in `skipped` and logged.

    Args:
        label_ids: those that each row may pair on, or one; none, null or a negative one =
            unlabelled.
        seed: of the order.
        pairs: whether rows need partners.

    Raises:
        ValueError: no row, or no pair, in the data.
    """

    divided = False

    def __init__(self, label_ids: Iterable[int | None | Sequence[int]], seed: int, pairs: bool = True):
        self.label_ids = [label_ids_of(value) for value in label_ids]
        self.seed = seed
        self.num_rows = len(self.label_ids)
        self.rows = np.arange(self.num_rows)
        self.skipped = 0
        if pairs:
            self._skip_lonely_rows()
        if len(self.rows) == 0:
            raise ValueError(
                "no two rows share a label: there is no pair to train on; sampling: independent needs none"
                if pairs
                else "the data has no row"
            )

    def _skip_lonely_rows(self) -> None:
        counts = Counter(label_id for ids in self.label_ids for label_id in ids)
        several_unlabelled = sum(not ids for ids in self.label_ids) > 1
        shared = [tuple(label_id for label_id in ids if counts[label_id] > 1) for ids in self.label_ids]
        self.rows = np.array(
            [row for row, ids in enumerate(self.label_ids) if shared[row] or (not ids and several_unlabelled)],
            dtype=int,
        )
        self.skipped = len(self.label_ids) - len(self.rows)
        if self.skipped:
            logger.warning(
                "%d of %d rows are skipped: no other row shares a label with them", self.skipped, len(self.label_ids)
            )
        self.label_ids = shared

    def epoch(self, number: int, start: int | None = None) -> Iterator[tuple[int, Item]]:
        order = np.random.default_rng([self.seed, number]).permutation(self.rows)
        for position in range(0 if start is None else start + 1, len(order)):
            row = int(order[position])
            yield position, Item(row, self.label_ids[row], row)


class WaitingRoom:
    """Where a row waits until another one of its label comes.

    A row with several labels pairs on one of them, drawn with weights 1 / (number of rows seen so
    far that have it): rare labels are preferred, so that frequent ones do not swallow the pairs.
    Unlabelled rows pair with each other. A row never meets itself: where its copy of a later epoch
    finds it still waiting, both wait. So there is at most one row per label in here, whatever the
    size of the data.

    Args:
        seed: of the labels drawn.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.rows_added = 0
        self.most_labels = 1
        self.counts: Counter[int] = Counter()
        self.waiting: dict[int, tuple[Item, int]] = {}  # label: the row that waits, and how many times

    def add(self, item: Item) -> tuple[Item, Item] | None:
        """Lets a row in; returns the pair it makes, if one of its label was waiting."""
        self.counts.update(item.label_ids)
        self.rows_added += 1
        self.most_labels = max(self.most_labels, len(item.label_ids))
        label = self._draw(item)
        if label not in self.waiting:
            self.waiting[label] = (item, 1)
            return None
        first, copies = self.waiting.pop(label)
        if first.key == item.key:
            self.waiting[label] = (first, copies + 1)
            return None
        if copies > 1:
            self.waiting[label] = (first, copies - 1)
        return first, item

    def _draw(self, item: Item) -> int:
        if not item.label_ids:
            return UNLABELLED
        # not a label under which this very row waits already: it may be the only one that has it
        free = [
            label for label in item.label_ids if label not in self.waiting or self.waiting[label][0].key != item.key
        ] or item.label_ids
        if len(free) == 1:
            return free[0]
        weights = np.array([1 / self.counts[label] for label in free])
        return int(np.random.default_rng([self.seed, self.rows_added]).choice(free, p=weights / weights.sum()))

    def state_dict(self) -> dict:
        waiting = {label: (*item, copies) for label, (item, copies) in self.waiting.items()}
        return {"rows_added": self.rows_added, "counts": dict(self.counts), "waiting": waiting}

    def load_state_dict(self, state: dict) -> None:
        self.rows_added, self.counts = state["rows_added"], Counter(state["counts"])
        self.waiting = {label: (Item(*saved[:3]), saved[3]) for label, saved in state["waiting"].items()}


class BatchSampler:
    """Endless batches of (row, number of the draw): each epoch passes every row once, in a new
    random order.

    With `pairs`, batches hold B/2 pairs view-major: all first halves, then their partners in the
    same order. Rows left without a partner at an epoch's end wait for one in the next.

    The sequence depends on the seed alone. Where the row order is not divided among the processes,
    process p of n takes every n-th batch of one common sequence.

    Args:
        order: the rows.
        batch_size: rows per batch of one process; even for pairs.
        seed: of the labels that rows with several pair on.
        pairs: label pairs, or else independent rows.
        process_index, num_processes: which share of the batches this process takes.
        twice: independent rows, each in both of two views with a draw of its own: two captions of
            one image.
        state: from `states`, of the last batch that was used; resumes behind it.

    Attributes:
        states: of each batch yielded, oldest first, for the user to take away: what resumes behind
            it, as plain values.

    Raises:
        ValueError: an odd batch size for pairs; while iterating, data without any pair.
    """

    def __init__(
        self,
        order: RowOrder,
        batch_size: int,
        seed: int,
        pairs: bool,
        process_index: int = 0,
        num_processes: int = 1,
        state: dict | None = None,
        twice: bool = False,
    ):
        if (pairs or twice) and batch_size % 2:
            raise ValueError(f"batch_size is {batch_size}; pairs need an even number of rows")
        if pairs and twice:
            raise ValueError("rows are paired with others or with themselves, not both")
        self.twice = twice
        self.order = order
        self.batch_size = batch_size
        self.seed = seed
        self.pairs = pairs
        self.process_index = process_index
        self.num_processes = num_processes
        self.state = state
        self.states: deque[dict] = deque()

    def __iter__(self) -> Iterator[list[tuple[Any, int]]]:
        self.states.clear()
        room = WaitingRoom(self.seed)
        start, number = (0, None), 0
        if self.state is not None:
            start, number = (self.state["epoch"], self.state["position"]), self.state["number"]
            room.load_state_dict(self.state["room"])
        groups: list[tuple[Item, ...]] = []
        for epoch, position, group in self._groups(room, *start):
            groups.append(group)
            if len(groups) * len(group) < self.batch_size:
                continue
            batch = [item for view in zip(*groups) for item in view]
            groups = []
            draw = (
                number * self.num_processes + self.process_index if self.order.divided else number
            ) * self.batch_size
            mine = self.order.divided or number % self.num_processes == self.process_index
            number += 1
            if mine:
                self.states.append({"epoch": epoch, "position": position, "number": number, "room": room.state_dict()})
                yield [(item.row, draw + place) for place, item in enumerate(batch)]

    def _groups(self, room: WaitingRoom, first_epoch: int, start: Any) -> Iterator[tuple[int, Any, tuple[Item, ...]]]:
        """Endless (epoch, position, pair or single row), from behind a position on."""
        barren = 0
        for epoch in count(first_epoch):
            barren += 1
            for position, item in self.order.epoch(epoch, start):
                group = room.add(item) if self.pairs else (item, item) if self.twice else (item,)
                if group is not None:
                    barren = 0
                    yield epoch, position, group
            start = None
            # A row waits under another of its labels each epoch. Where processes divide the rows,
            # two of one label meet with a chance of one in the number of processes.
            by_chance = CHANCES * self.num_processes if self.order.divided and self.num_processes > 1 else 0
            if barren > room.most_labels + 2 + by_chance:
                raise ValueError(
                    f"{barren} epochs without a pair: no two of these rows share a label; sampling: "
                    "independent needs no labels"
                    if room.waiting
                    else "the data has no row, or fewer than there are processes"
                )
            lonely = sum(copies > 1 for _, copies in room.waiting.values())
            if epoch == 1 and lonely:
                logger.warning(
                    "%d rows found no partner in two epochs: they may be the only ones of their label", lonely
                )
