"""Streams: each row once an epoch, disjoint across processes, and batches that do not depend on the
number of workers."""

from collections import Counter
from itertools import islice

import pytest
from conftest import write_dataset
from data.conftest import N, streamed
from data.test_batches import make_batches

from t2i_supcon.data import Batches, BatchSampler, Collator, TrainingRows, streaming


def ids(items):
    return [item.row["image_id"] for _, item in items]


def test_an_epoch_of_a_stream_holds_each_row_once_in_its_own_order(folder):
    order = streamed(folder)
    first, second = ids(order.epoch(0)), ids(order.epoch(1))
    assert sorted(first) == sorted(second) == sorted(f"train-{i}" for i in range(N))
    assert (
        first != second and first == ids(streamed(folder).epoch(0)) and first != ids(streamed(folder, seed=1).epoch(0))
    )


def test_blocks_mix_rows_that_lie_far_apart(folder):
    numbers = [int(name.split("-")[1]) for name in ids(streamed(folder).epoch(0))[:24]]
    assert max(numbers) - min(numbers) > N / 2


@pytest.mark.parametrize("stopped", [0, 11, 30, 58, 59])
def test_a_stream_resumes_behind_any_position(folder, stopped, monkeypatch):
    monkeypatch.setattr(streaming, "SHARDS_AT_ONCE", 3)
    monkeypatch.setattr(streaming, "ROWS_OF_A_SHARD", 4)
    whole = list(streamed(folder).epoch(3))
    assert len(whole) == N
    rest = list(streamed(folder).epoch(3, whole[stopped][0]))
    assert ids(rest) == ids(whole[stopped + 1 :]) and [p for p, _ in rest] == [p for p, _ in whole[stopped + 1 :]]


@pytest.mark.parametrize("processes", [2, 3, 9])
def test_processes_read_disjoint_rows_and_together_all(folder, processes):
    shares = [ids(streamed(folder, process, processes).epoch(1)) for process in range(processes)]
    assert Counter(name for share in shares for name in share) == Counter(f"train-{i}" for i in range(N))


def numbered_batches(folder, process, processes, count):
    sampler = BatchSampler(streamed(folder, process, processes), 4, 0, True, process, processes)
    return [[(row["image_id"], draw) for row, draw in batch] for batch in islice(sampler, count)]


def test_more_processes_than_shards_share_the_batches_of_one(folder):
    shares = [numbered_batches(folder, process, 13, 2) for process in range(13)]  # of nine shards
    assert [batch for group in zip(*shares) for batch in group] == numbered_batches(folder, 0, 1, 26)


@pytest.mark.parametrize(("row_group", "processes"), [(N, 2), (7, 9)])
def test_every_row_of_a_label_of_two_finds_its_partner_whichever_process_reads_it(tmp_path, row_group, processes):
    folder = write_dataset(tmp_path / "d", [i % (N // 2) for i in range(N)], row_group=row_group)
    used = [
        name
        for process in range(processes)
        for batch in numbered_batches(folder, process, processes, 60)
        for name, _ in batch
    ]
    assert len(set(used)) == N


def test_a_place_in_one_order_is_refused_for_another(folder, tokenizer):
    batches = make_batches(folder, tokenizer, True)
    next(iter(batches))
    with pytest.raises(
        ValueError, match="the checkpoint does not fit the recipe: data was a stream there and is 60 rows here"
    ):
        make_batches(folder, tokenizer, False, batches.state_dict())
    sampler = BatchSampler(streamed(folder), 8, 1, True)
    with pytest.raises(ValueError, match="seed was 0 there and is 1 here"):
        Batches(TrainingRows(None, tokenizer, (8,), 0), sampler, Collator(2), state=batches.state_dict())


def test_processes_of_a_stream_train_on_different_pictures(folder, tokenizer):
    def pixels(process):
        batches = islice(make_batches(folder, tokenizer, True, process=process, processes=2), 3)
        return {image.sum().item() for batch in batches for image in batch.images[0]}

    assert not pixels(0) & pixels(1)
