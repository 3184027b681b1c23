"""Streams: each row once an epoch, disjoint across processes, and batches that do not depend on the
number of workers."""

from collections import Counter
from itertools import islice

import pytest
import torch
from conftest import encoded, picture, write_dataset

from t2i_supcon.data import (
    Batches,
    BatchSampler,
    BrokenRowError,
    Collator,
    IndexedRows,
    StreamedRows,
    TrainingRows,
    load_rows,
    shard_files,
    streaming,
)

N = 60


@pytest.fixture
def folder(tmp_path):
    return write_dataset(
        tmp_path / "d", [i * 4 // N for i in range(N)], row_group=7
    )  # sorted by label, nine row groups


def streamed(folder, process=0, processes=1, seed=0):
    files = shard_files(str(folder), "train")
    return StreamedRows(load_rows(str(folder), "train", streaming=True), "labels", seed, process, processes, files)


def ids(items):
    return [item.row["image_id"] for _, item in items]


def make_batches(folder, tokenizer, stream, state=None, workers=0, share=0.0, process=0, processes=1):
    rows = None if stream else load_rows(str(folder), "train")
    order = streamed(folder, process, processes) if stream else IndexedRows(rows["labels"], 0)
    samples = TrainingRows(
        rows, tokenizer, (8,), 0, random_crop=True, flip=True, files=shard_files(str(folder), "train")
    )
    return Batches(
        samples, BatchSampler(order, 8, 0, True, process, processes), Collator(2), "cpu", workers, share, state
    )


def same(a, b):
    return a.captions == b.captions and torch.equal(a.images[0], b.images[0]) and torch.equal(a.labels, b.labels)


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


def test_another_batch_size_goes_on_behind_the_same_place(folder, tokenizer):
    batches = make_batches(folder, tokenizer, True)
    used, following = islice(batches, 2)
    state = make_batches(folder, tokenizer, True)
    next(iter(state))
    sampler = BatchSampler(streamed(folder), 4, 0, True)
    smaller = Batches(TrainingRows(None, tokenizer, (8,), 0), sampler, Collator(2), state=state.state_dict())
    labels = [batch.labels[:2].tolist() for batch in islice(smaller, 2)]
    assert labels[0] + labels[1] == following.labels[:4].tolist() != used.labels[:4].tolist()


def test_iterating_again_goes_on_behind_the_last_batch(folder, tokenizer):
    whole = list(islice(make_batches(folder, tokenizer, True), 5))
    batches = make_batches(folder, tokenizer, True)
    assert all(map(same, whole, [*islice(batches, 2), *islice(batches, 3)]))


@pytest.mark.parametrize("stream", [False, True])
def test_batches_are_the_same_for_any_number_of_workers_and_resume_exactly(folder, tokenizer, stream):
    alone = make_batches(folder, tokenizer, stream)
    batches, states = [], []
    for batch in islice(alone, 12):  # an epoch is 7.5 batches
        batches.append(batch)
        states.append(alone.state_dict())
        assert batch.labels[:4].tolist() == batch.labels[4:].tolist()
    with_workers = make_batches(folder, tokenizer, stream, workers=2)
    assert all(map(same, batches, with_workers))
    resumed = make_batches(folder, tokenizer, stream, states[4], workers=1)
    continued = list(islice(resumed, 7))
    assert all(map(same, batches[5:], continued)) and len(continued) == 7
    assert resumed.state_dict()["rows"] == states[-1]["rows"] == 96
    assert resumed.state_dict()["sampler"]["position"] == states[-1]["sampler"]["position"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_state_survives_a_file_of_plain_values(folder, tokenizer, stream, tmp_path):
    before = make_batches(folder, tokenizer, stream)
    whole = list(islice(before, 3))
    torch.save(before.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    after = list(islice(make_batches(folder, tokenizer, stream, state), 2))
    assert all(map(same, list(islice(make_batches(folder, tokenizer, stream), 5))[3:], after)) and len(whole) == 3


def test_processes_of_a_stream_train_on_different_pictures(folder, tokenizer):
    def pixels(process):
        batches = islice(make_batches(folder, tokenizer, True, process=process, processes=2), 3)
        return {image.sum().item() for batch in batches for image in batch.images[0]}

    assert not pixels(0) & pixels(1)


@pytest.fixture
def damaged(tmp_path):
    images = [encoded(picture(i)) for i in range(N)]
    images[10] = images[10][:60]
    return write_dataset(tmp_path / "damaged", [i * 4 // N for i in range(N)], images=images, row_group=7)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_row_stops_the_run_and_is_named(damaged, tokenizer, stream, workers):
    with pytest.raises(
        BrokenRowError, match="^train-00000-of-00001.parquet, row 10: train-10: the image cannot be decoded"
    ):
        list(islice(make_batches(damaged, tokenizer, stream, workers=workers), 9))


@pytest.mark.parametrize("stream", [False, True])
def test_an_allowed_share_is_counted_logged_and_its_partner_stands_in(damaged, tokenizer, stream, caplog):
    batches = make_batches(damaged, tokenizer, stream, share=0.002)  # of the first 1000 rows: two
    found = list(islice(batches, 16))
    assert batches.state_dict()["broken"] == 2 and batches.state_dict()["rows"] == 128
    assert caplog.text.count("row 10: train-10") == 2
    for batch in found:
        assert len(batch) == 8 and batch.labels[:4].tolist() == batch.labels[4:].tolist()
        if batch.broken:  # the row and its partner are the same picture now
            assert any(torch.equal(batch.images[0][row], batch.images[0][row + 4]) for row in range(4))
    with pytest.raises(BrokenRowError, match="3 broken rows among .* the last: train-00000"):
        list(islice(batches, 16))


def test_a_batch_of_broken_rows_is_refused():
    with pytest.raises(BrokenRowError, match="every row of a batch is broken, the first: row 1"):
        Collator(2)([BrokenRowError("row 1"), BrokenRowError("row 2")])
