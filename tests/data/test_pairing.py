"""Pairs and batches: each row once an epoch, in seeded random order, the same however the work is
split."""

from collections import Counter
from itertools import islice

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2i_supcon.data import BatchSampler, IndexedRows, StreamedRows
from t2i_supcon.data.pairing import Item, WaitingRoom

UNIFORM = st.integers(1, 6).flatmap(lambda n: st.integers(1, 12).map(lambda each: [[i % n] for i in range(n * each)]))
GIANT = st.integers(2, 50).map(lambda n: [[0]] * n + [[i] for i in range(1, 4)])
SINGLETONS = st.integers(1, 30).map(lambda n: [[i] for i in range(n)])
SORTED = st.lists(st.integers(0, 5), min_size=2, max_size=60).map(lambda labels: [[label] for label in sorted(labels)])
MULTI = st.lists(st.lists(st.integers(0, 6), max_size=4, unique=True), min_size=2, max_size=60)
UNLABELLED = st.integers(2, 30).map(lambda n: [[]] * n)
ANY = st.one_of(UNIFORM, GIANT, SINGLETONS, SORTED, MULTI, UNLABELLED)


class InOrder:
    """Rows of a stream in their own order every epoch, like a stream that cannot shuffle; divided
    among processes row by row."""

    divided = True

    def __init__(self, labels, process=0, processes=1):
        self.items = [(i, Item(i, tuple(own), i)) for i, own in enumerate(labels)][process::processes]

    def epoch(self, number, start=None):
        return iter([(place, item) for place, item in self.items if start is None or place > start])


def share_a_label(a, b):
    return bool(set(a) & set(b)) or (not a and not b)


def has_partner(labels):
    return [any(share_a_label(own, other) for j, other in enumerate(labels) if j != i) for i, own in enumerate(labels)]


def take(sampler, n):
    return [[row for row, _ in batch] for batch in islice(iter(sampler), n)]


@given(ANY, st.integers(0, 3))
def test_a_row_waits_for_the_next_of_its_label_and_few_wait(labels, seed):
    room = WaitingRoom(seed)
    pairs, used = [], Counter()
    for epoch in range(4):
        for row, own in enumerate(labels):
            pair = room.add(Item(row, tuple(own), row))
            # bounded by labels, not by rows
            assert len(room.waiting) <= len({label for own in labels for label in own}) + 1
            if pair:
                pairs.append(pair)
                used.update(item.row for item in pair)
        waiting = Counter()
        for item, copies in room.waiting.values():
            waiting[item.row] += copies
        assert all(used[row] + waiting[row] == epoch + 1 for row in range(len(labels)))  # none lost, none repeated
    assert all(a.key != b.key and share_a_label(a.label_ids, b.label_ids) for a, b in pairs)


@settings(max_examples=30, deadline=None)
@given(ANY, st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_processes_of_a_stream_hand_out_every_row_equally_often(labels, num_shards, processes, seed):
    features = datasets.Features({"labels": datasets.List(datasets.Value("int64")), "number": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"labels": labels, "number": range(len(labels))}, features)
    stream = rows.to_iterable_dataset(num_shards=min(num_shards, len(labels)))
    orders = [StreamedRows(stream, "labels", seed, process, processes) for process in range(processes)]
    for epoch in range(2):
        seen = Counter(item.row["number"] for order in orders for _, item in order.epoch(epoch))
        assert seen == {number: 1 if orders[0].divided else processes for number in range(len(labels))}
    if not any(has_partner(labels)):
        return
    batches = []
    for process, order in enumerate(orders):
        sampler = BatchSampler(order, 2, seed, True, process, processes)
        batches.append(list(islice(sampler, 3)))
        for (a, _), (b, _) in batches[-1]:
            assert a["number"] != b["number"] and share_a_label(a["labels"], b["labels"])
        resumed = BatchSampler(order, 2, seed, True, process, processes, sampler.states[0])
        assert list(islice(resumed, 2)) == batches[-1][1:]
    if not orders[0].divided:
        assert [batch for group in zip(*batches) for batch in group] == list(
            islice(BatchSampler(orders[0], 2, seed, True), 3 * processes)
        )


@settings(max_examples=60)
@given(ANY, st.integers(0, 5), st.sampled_from([2, 4, 6]), st.booleans())
def test_batches_hold_pairs_and_every_row_comes_equally_often(labels, seed, batch_size, stream):
    pairable = has_partner(labels)
    if not any(pairable):
        with pytest.raises(ValueError, match="no two rows share a label|without a pair"):
            take(
                BatchSampler(InOrder(labels) if stream else IndexedRows(labels, seed), batch_size, seed, pairs=True), 1
            )
        return
    order = InOrder(labels) if stream else IndexedRows(labels, seed)
    if not stream:
        assert order.skipped == pairable.count(False)
    sampler = BatchSampler(order, batch_size, seed, pairs=True)
    seen, epoch = Counter(), 0
    batches = iter(sampler)
    while epoch < 4:
        batch = [row for row, _ in next(batches)]
        state = sampler.states.popleft()
        epoch = state["epoch"]
        for a, b in zip(batch[: batch_size // 2], batch[batch_size // 2 :]):
            assert a != b and share_a_label(labels[a], labels[b])
        seen.update(batch)
        waiting = Counter()
        for key, _, _, copies in state["room"]["waiting"].values():
            waiting[key] += copies
        for row in range(len(labels)):
            if pairable[row]:
                # handed out or waiting once for each past epoch, and perhaps for this one
                assert seen[row] + waiting[row] in (epoch, epoch + 1)
            else:
                assert seen[row] == 0


def test_one_epoch_of_even_classes_uses_each_row_exactly_once():
    labels = [i % 5 for i in range(40)]
    batches = take(BatchSampler(IndexedRows(labels, 3), 8, 3, pairs=True), 5)
    assert sorted(row for batch in batches for row in batch) == list(range(40))


def test_partners_change_from_epoch_to_epoch():
    pairs = take(BatchSampler(IndexedRows([0] * 20, 0), 2, 0, pairs=True), 20)
    assert len({tuple(sorted(pair)) for pair in pairs}) > 15


def test_independent_rows_pass_once_an_epoch():
    batches = take(BatchSampler(IndexedRows([0] * 12, 0, pairs=False), 4, 0, pairs=False), 6)
    flat = [row for batch in batches for row in batch]
    assert sorted(flat[:12]) == sorted(flat[12:]) == list(range(12))
    assert flat[:12] != flat[12:]


def test_rows_with_several_labels_prefer_rare_ones():
    """Label 0 is on every row, labels 1 to 10 on ten each: the weights are 1/100 and 1/10 once all
    have been seen."""
    labels = [[0, 1 + i % 10] for i in range(100)]
    room = WaitingRoom(0)
    common, pairs = 0, 0
    for row in range(4000):
        pair = room.add(Item(row, tuple(labels[row % 100]), row))
        if pair and row > 400:
            pairs += 1
            common += (set(pair[0].label_ids) & set(pair[1].label_ids)) == {0}
    # 1/11 of the rows draw the frequent label, and some of these meet their rare one by chance
    assert 0.02 < common / pairs < 0.11


@settings(max_examples=40)
@given(ANY.filter(lambda labels: any(has_partner(labels))), st.integers(0, 5), st.booleans(), st.integers(1, 6))
def test_the_seed_decides_the_order_and_a_state_resumes_it(labels, seed, stream, stopped):
    def sampler(state=None):
        return BatchSampler(InOrder(labels) if stream else IndexedRows(labels, seed), 4, seed, pairs=True, state=state)

    first = sampler()
    whole = list(islice(iter(first), 12))
    assert whole == list(islice(iter(sampler()), 12))
    assert whole[stopped:] == list(islice(iter(sampler(first.states[stopped - 1])), 12 - stopped))


def test_another_seed_gives_another_order():
    labels = [i % 3 for i in range(20)]
    a, b = (take(BatchSampler(IndexedRows(labels, seed), 4, seed, pairs=True), 12) for seed in (7, 8))
    assert a != b


def test_processes_share_the_batches_of_one():
    labels = [i % 3 for i in range(20)]
    whole = list(islice(iter(BatchSampler(IndexedRows(labels, 7), 4, 7, pairs=True)), 12))
    samplers = [BatchSampler(IndexedRows(labels, 7), 4, 7, True, process, 3) for process in range(3)]
    shares = [list(islice(iter(sampler), 4)) for sampler in samplers]
    assert [batch for group in zip(*shares) for batch in group] == whole
    resumed = [
        BatchSampler(IndexedRows(labels, 7), 4, 7, True, process, 3, samplers[process].states[1])
        for process in range(3)
    ]
    assert [list(islice(iter(sampler), 2)) for sampler in resumed] == [share[2:] for share in shares]


def test_draws_of_a_divided_order_differ_between_processes():
    draws = [
        [draw for _, draw in batch]
        for p in range(2)
        for batch in islice(iter(BatchSampler(InOrder([[0]] * 16, p, 2), 4, 0, True, p, 2)), 4)
    ]
    assert sorted(draw for batch in draws for draw in batch) == list(range(32))


def test_a_label_with_one_row_is_skipped_counted_and_logged(caplog):
    order = IndexedRows([0, 0, 1, 2, 2], 0)
    assert order.skipped == 1 and "1 of 5 rows are skipped" in caplog.text
    assert 2 not in {row for batch in take(BatchSampler(order, 2, 0, pairs=True), 20) for row in batch}
    caplog.clear()
    assert 2 not in {
        row for batch in take(BatchSampler(InOrder([[0], [0], [1], [2], [2]]), 2, 0, pairs=True), 20) for row in batch
    }
    assert "1 rows found no partner in two epochs" in caplog.text


def test_impossible_batches_are_refused():
    with pytest.raises(ValueError, match="batch_size is 3"):
        BatchSampler(IndexedRows([0, 0], 0), 3, 0, pairs=True)
    with pytest.raises(ValueError, match="no row"):
        IndexedRows([], 0, pairs=False)
    with pytest.raises(ValueError, match="no row"):
        take(BatchSampler(InOrder([]), 2, 0, pairs=True), 1)


def test_rows_can_stand_in_two_views_with_a_draw_of_their_own():
    sampler = BatchSampler(IndexedRows([0] * 6, seed=1, pairs=False), 4, 1, pairs=False, twice=True)
    batches = list(islice(sampler, 6))
    for batch in batches:
        rows, draws = zip(*batch)
        assert rows[:2] == rows[2:] and len(set(draws)) == 4
    assert sorted(row for batch in batches[:3] for row, _ in batch[:2]) == list(range(6))  # one epoch
    again = BatchSampler(IndexedRows([0] * 6, seed=1, pairs=False), 4, 1, pairs=False, twice=True)
    again.state = sampler.states[1]
    assert list(islice(again, 3)) == batches[2:5]
    with pytest.raises(ValueError, match="batch_size is 5; pairs need an even number of rows"):
        BatchSampler(IndexedRows([0], seed=1, pairs=False), 5, 1, pairs=False, twice=True)
