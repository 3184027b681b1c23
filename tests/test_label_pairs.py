"""Label pairs for anybody's data: each guarantee, counted over epochs."""

from collections import Counter
from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from conftest import in_processes
from torch.utils.data import DataLoader

from t2i_supcon import LabelPairs, LabelPairStream

LABELS = [0] * 6 + [1] * 4 + [2] * 2 + [3]  # no other row has label 3


def take(batches, number):
    return list(islice(batches, number))


def test_partners_share_a_label_and_every_row_comes_once_an_epoch():
    batches = take(LabelPairs(LABELS, batch_size=4), 30)
    for batch in batches:
        assert all(LABELS[a] == LABELS[b] and a != b for a, b in zip(batch[:2], batch[2:], strict=True))
    drawn = [row for batch in batches for row in batch]
    epochs = [Counter(drawn[12 * i : 12 * i + 12]) for i in range(10)]
    assert all(epoch == Counter(range(12)) for epoch in epochs)  # all labels have an even number of rows
    assert len({tuple(drawn[12 * i : 12 * i + 12]) for i in range(10)}) == 10  # in a new order


def test_a_row_left_over_waits_for_the_next_epoch():
    drawn = Counter(row for batch in take(LabelPairs([5] * 3 + [6] * 5, batch_size=2), 400) for row in batch)
    assert max(drawn.values()) - min(drawn.values()) <= 1


def test_the_seed_decides_and_start_goes_on():
    first, again, other = (take(LabelPairs(LABELS, 4, seed=seed), 20) for seed in (1, 1, 2))
    assert first == again != other
    assert take(LabelPairs(LABELS, 4, seed=1, start=7), 13) == first[7:]


def test_processes_share_one_sequence(tmp_path):
    whole = take(LabelPairs(LABELS, 4), 12)
    parts = [take(LabelPairs(LABELS, 4, processes=(index, 3)), 4) for index in range(3)]
    assert [batch for together in zip(*parts) for batch in together] == whole
    found = in_processes(2, lambda index: take(LabelPairs(LABELS, 4), 6), tmp_path)
    assert [batch for together in zip(*found) for batch in together] == whole


def test_labels_of_several_kinds():
    for labels in (torch.tensor([0, 0, 1, 1]), np.array([0, 0, 1, 1]), [[0], [0, 7], [1], [1, 8]]):
        assert {frozenset(batch) for batch in take(LabelPairs(labels, 2), 20)} == {frozenset((0, 1)), frozenset((2, 3))}
    shared = [{0, 1}, {1, 2}, {2, 3}, {3, 0}]
    for a, b in take(LabelPairs([sorted(ids) for ids in shared], 2), 40):
        assert shared[a] & shared[b] and a != b
    unlabelled = take(LabelPairs([None, 0, 0, -1], 2), 20)
    assert {frozenset(batch) for batch in unlabelled} == {frozenset((0, 3)), frozenset((1, 2))}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_torch_loader_takes_it(workers):
    class Squares(torch.utils.data.Dataset):
        def __getitem__(self, row):
            return torch.tensor([row, row**2])

    loader = DataLoader(Squares(), batch_sampler=LabelPairs(LABELS, 4), num_workers=workers)
    expected = take(LabelPairs(LABELS, 4), 6)
    for batch, rows in zip(take(loader, 6), expected, strict=True):
        assert batch.tolist() == [[row, row**2] for row in rows]


def test_data_and_sizes_without_pairs_are_refused():
    with pytest.raises(ValueError, match="batch_size is 3; pairs need an even number"):
        LabelPairs(LABELS, 3)
    with pytest.raises(ValueError, match="no two rows share a label"):
        LabelPairs([0, 1, 2], 2)
    with pytest.raises(ValueError, match="batch_size is 3; pairs need an even number"):
        LabelPairStream([], len, 3)
    with pytest.raises(ValueError, match="epochs without a pair: no two of these rows share a label"):
        next(iter(LabelPairStream([(0, 0), (1, 1)], lambda row: row[1], 2)))


ROWS = [(name, label) for name, label in zip("abcdefghijkl", [0, 1, 2, 0, 1, 2, 2, 1, 0, 0, 1, 2])]


class Stream:
    """Rows that can only be iterated, and how many are in memory at most is the reader's choice."""

    def __iter__(self):
        return iter(ROWS)


def test_a_stream_pairs_rows_as_they_come():
    batches = take(LabelPairStream(Stream(), lambda row: row[1], batch_size=4), 9)
    for batch in batches:
        assert all(a[1] == b[1] and a != b for a, b in zip(batch[:2], batch[2:], strict=True))
    drawn = [row for batch in batches for row in batch]
    assert all(Counter(drawn[12 * i : 12 * i + 12]) == Counter(ROWS) for i in range(3))
    waits = LabelPairStream(Stream(), lambda row: torch.tensor(row[1]), batch_size=2)
    assert take(waits, 3) == [[ROWS[0], ROWS[3]], [ROWS[1], ROWS[4]], [ROWS[2], ROWS[5]]]


def test_a_row_is_known_by_its_key_where_its_place_changes():
    class Shuffled:
        def __init__(self):
            self.generator = np.random.default_rng(0)

        def __iter__(self):
            return iter([ROWS[i] for i in self.generator.permutation([0, 3, 8])])  # three rows of one label

    for a, b in take(LabelPairStream(Shuffled(), lambda row: row[1], 2, key=lambda row: row[0]), 100):
        assert a != b


def test_workers_and_processes_divide_a_stream(tmp_path):
    loader = DataLoader(LabelPairStream(Stream(), lambda row: row[1], 2), batch_size=None, num_workers=2)
    batches = take(loader, 8)
    even, odd = {ROWS[i][0] for i in range(0, 12, 2)}, {ROWS[i][0] for i in range(1, 12, 2)}
    names = [{row[0] for row in batch} for batch in batches]
    assert all(name <= even for name in names[::2]) and all(name <= odd for name in names[1::2])
    found = in_processes(2, lambda index: take(LabelPairStream(Stream(), lambda row: row[1], 2), 4), tmp_path)
    assert [{row[0] for batch in part for row in batch} <= share for part, share in zip(found, (even, odd))]
    assert not {row[0] for batch in found[0] for row in batch} & {row[0] for batch in found[1] for row in batch}


@pytest.mark.parametrize("num_shards", [8, 1])
def test_workers_miss_no_row_of_a_stream_of_datasets(num_shards):
    """`datasets` divides single rows over workers by itself, by shards."""
    data = datasets.Dataset.from_dict({"id": range(48), "label": [i // 2 % 4 for i in range(48)]})
    stream = LabelPairStream(data.to_iterable_dataset(num_shards), lambda row: row["label"], batch_size=4)
    batches = take(DataLoader(stream, batch_size=None, collate_fn=list, num_workers=2), 12)
    assert sorted(row["id"] for batch in batches for row in batch) == list(range(48))
    assert all(a["label"] == b["label"] for batch in batches for a, b in zip(batch[:2], batch[2:], strict=True))


def test_labels_may_be_of_numpy_or_torch():
    expected = take(LabelPairs(LABELS, 4), 5)
    for labels in (np.array(LABELS), torch.tensor(LABELS), list(np.array(LABELS)), list(torch.tensor(LABELS))):
        assert take(LabelPairs(labels, 4), 5) == expected
