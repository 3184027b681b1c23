"""Batches: the same for any number of workers, resumed behind any of them, and few broken rows in
them."""

from itertools import islice

import pytest
import torch
from conftest import encoded, picture, write_dataset
from data.conftest import N, streamed

from t2i_supcon.data import (
    Batches,
    BatchSampler,
    BrokenRowError,
    Collator,
    IndexedRows,
    TrainingRows,
    load_rows,
    shard_files,
)


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
