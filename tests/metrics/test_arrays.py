"""What every metric does first: arrays and tensors checked and made float64."""

import numpy as np
import pytest
import torch

from t2i_supcon.metrics.arrays import as_float64, as_labels, as_pairs, as_rows, as_two_sets, unit_rows


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int32])
def test_tensors_of_any_precision_keep_their_values(dtype):
    values = torch.tensor([[1.0, -2.0], [0.0, 4.0]], dtype=dtype).requires_grad_(dtype.is_floating_point)
    found = as_float64(values)
    assert found.dtype == np.float64 and found.tolist() == [[1, -2], [0, 4]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros(3), r"x have shape \(3,\); expected \(N, D\)"),
        (np.zeros((3, 0)), r"x have shape \(3, 0\); expected \(N, D\)"),
        (np.zeros((1, 3)), r"x have shape \(1, 3\); expected \(N, D\) with N of at least 2"),
        (np.array([[1.0, np.nan], [1, 2]]), "x hold NaN or infinity"),
        (torch.tensor([[1.0, float("inf")], [1, 2]]), "x hold NaN or infinity"),
    ],
)
def test_what_are_no_rows_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        as_rows(rows, "x")


def test_sets_of_two_widths_are_refused_and_two_numbers_of_rows_are_not():
    a, b = as_two_sets(np.ones((2, 3)), torch.ones(5, 3), ("real", "generated"))
    assert a.shape == (2, 3) and b.shape == (5, 3)
    with pytest.raises(ValueError, match="real are 3 wide but generated are 4 wide; both must come from one network"):
        as_two_sets(np.ones((2, 3)), np.ones((2, 4)), ("real", "generated"))


def test_every_row_has_one_label():
    assert as_labels(torch.tensor([3, 1]), 2, "labels").tolist() == [3, 1]
    with pytest.raises(ValueError, match=r"labels have shape \(2,\); expected \(3,\), one per row"):
        as_labels([3, 1], 3, "labels")


def test_rows_of_length_one():
    found = unit_rows([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0]])
    assert found[0] == pytest.approx([0.6, 0.8]) and found[1].tolist() == [0, 0] and np.isnan(found[2]).all()


def test_pairs_have_one_shape():
    first, second = as_pairs(np.array([[2.0, 0.0]]), torch.tensor([[0.0, 5.0]]), ("images", "texts"))
    assert first.tolist() == [[1, 0]] and second.tolist() == [[0, 1]]
    assert as_pairs([[2, 0]], [[0, 5]], ("images", "texts"))[0].tolist() == [[1, 0]]
    with pytest.raises(ValueError, match=r"images have shape \(1, 2\) and texts \(2, 2\); expected \(N, D\) twice"):
        as_pairs(np.ones((1, 2)), np.ones((2, 2)), ("images", "texts"))
