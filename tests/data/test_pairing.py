"""Pairs and batches: each row once an epoch, in seeded random order, the same however the work is split."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_supcon.data import BatchSampler, pair_rows

LABELS = st.lists(st.integers(-1, 4), min_size=2, max_size=40).filter(lambda labels: max(Counter(labels).values()) > 1)


def take(sampler, n):
    return [[row for row, _ in batch] for batch in islice(iter(sampler), n)]


@given(st.lists(st.integers(0, 3), max_size=60))
def test_pairs_share_a_label_and_use_each_row_once(labels):
    rows = list(enumerate(labels))
    pairs = list(pair_rows(rows, lambda row: row[1]))
    used = [row for pair in pairs for row in pair]
    assert len(used) == len(set(used))
    assert all(a[1] == b[1] and a != b for a, b in pairs)
    left = Counter(labels[n] for n, _ in set(rows) - set(used))
    assert all(count == 1 for count in left.values())  # of each label at most one row waits


@settings(max_examples=60)
@given(LABELS, st.integers(0, 5), st.sampled_from([2, 4, 6]))
def test_batches_hold_pairs_and_every_row_comes_equally_often(labels, seed, batch_size):
    sampler = BatchSampler(labels, batch_size, seed, pairs=True)
    counts = Counter(labels)
    usable = sum(1 for label in labels if counts[label] > 1)
    assert sampler.skipped == sum(1 for n in counts.values() if n == 1)
    epochs = 6
    seen = Counter()
    for batch in take(sampler, epochs * usable // batch_size):
        half = batch_size // 2
        for a, b in zip(batch[:half], batch[half:]):
            assert a != b and labels[a] == labels[b]
        seen.update(batch)
    # after six epochs each usable row was handed out six times, less those still waiting or in an unfinished batch
    waiting = len(counts) + batch_size
    assert sum(seen.values()) >= epochs * usable - batch_size
    assert all(n <= epochs + 2 for n in seen.values())
    assert sum(max(0, epochs - seen[row]) for row in range(len(labels)) if counts[labels[row]] > 1) <= 2 * waiting


def test_one_epoch_of_even_classes_uses_each_row_exactly_once():
    labels = [i % 5 for i in range(40)]
    batches = take(BatchSampler(labels, 8, 3, pairs=True), 5)
    assert sorted(row for batch in batches for row in batch) == list(range(40))


def test_independent_rows_pass_once_an_epoch():
    batches = take(BatchSampler([0] * 12, 4, 0, pairs=False), 6)
    flat = [row for batch in batches for row in batch]
    assert sorted(flat[:12]) == sorted(flat[12:]) == list(range(12))
    assert flat[:12] != flat[12:]


def test_the_seed_decides_the_order_and_start_resumes_it():
    labels = [i % 3 for i in range(20)]
    whole = list(islice(iter(BatchSampler(labels, 4, 7, pairs=True)), 12))
    assert whole == list(islice(iter(BatchSampler(labels, 4, 7, pairs=True)), 12))
    assert whole[5:] == list(islice(iter(BatchSampler(labels, 4, 7, pairs=True, start=5)), 7))
    assert whole != list(islice(iter(BatchSampler(labels, 4, 8, pairs=True)), 12))


def test_processes_share_the_batches_of_one():
    labels = [i % 3 for i in range(20)]
    whole = list(islice(iter(BatchSampler(labels, 4, 7, pairs=True)), 12))
    shares = [list(islice(iter(BatchSampler(labels, 4, 7, True, process, 3, start=1)), 3)) for process in range(3)]
    assert [batch for group in zip(*shares) for batch in group] == whole[3:12]


def test_a_label_with_one_row_is_skipped_counted_and_logged(caplog):
    sampler = BatchSampler([0, 0, 1, 2, 2], 2, 0, pairs=True)
    assert sampler.skipped == 1
    assert "1 rows" in caplog.text and "[1]" in caplog.text
    assert 2 not in {row for batch in take(sampler, 20) for row in batch}


@pytest.mark.parametrize(
    ("labels", "batch_size", "pairs", "message"), [([0, 0], 3, True, "batch_size is 3"), ([0, 1], 2, True, "no two rows"), ([], 2, False, "no row")]
)
def test_impossible_batches_are_refused(labels, batch_size, pairs, message):
    with pytest.raises(ValueError, match=message):
        BatchSampler(labels, batch_size, 0, pairs)
