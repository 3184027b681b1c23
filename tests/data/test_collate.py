"""Samples to a batch: padding, labels, and rows that nothing can stand in for."""

import pytest

from t2i_supcon.data import BrokenRowError, Collator, TrainingRows, load_rows


def test_collate_pads_and_marks_real_words(tiny_data, tokenizer):
    samples = TrainingRows(load_rows(str(tiny_data), "train"), tokenizer, (8, 16), 0)
    batch = Collator(2)([samples[n, n] for n in range(4)])
    # pixels, until the batch goes to its device
    assert [tuple(scale.shape) for scale in batch.images] == [(4, 8, 8, 3), (4, 16, 16, 3)]
    batch = batch.to("cpu")
    assert [tuple(scale.shape) for scale in batch.images] == [(4, 3, 8, 8), (4, 3, 16, 16)]
    for row, caption in enumerate(batch.captions):
        ids = tokenizer(caption)["input_ids"][: tokenizer.model_max_length]
        assert batch.input_ids[row, : len(ids)].tolist() == ids
        assert batch.attention_mask[row].tolist() == [1] * len(ids) + [0] * (batch.input_ids.shape[1] - len(ids))
    assert batch.labels.tolist() == [0, 1, 2, 0]
    assert Collator(2, num_classes=4)([samples[n, n] for n in range(2)]).labels.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]


def test_labels_without_a_name_are_refused_in_a_batch(tiny_data, tokenizer):
    sample = TrainingRows(load_rows(str(tiny_data), "train"), tokenizer, (8,), 0)[0, 0]
    several = [{**sample, "labels": labels} for labels in ([2, 0], [-1], None, [1])]
    assert Collator(2, num_classes=3)(several).labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match=r"has the labels \(2, 0\), but the data names 2 only"):
        Collator(2, num_classes=2)(several)


def test_a_batch_of_broken_rows_is_refused():
    with pytest.raises(BrokenRowError, match="every row of a batch is broken, the first: row 1"):
        Collator(2)([BrokenRowError("row 1"), BrokenRowError("row 2")])
