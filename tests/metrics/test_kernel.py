"""Kernel distances against recordings, a slow loop and torchmetrics."""

import warnings

import numpy as np
import pytest
import torch
from golden.weights import Golden, feature_rows
from torchmetrics.image.kid import KernelInceptionDistance

from t2i_supcon.metrics import kernel, kernel_distance

RECORDED = {  # name: seeds, rows, width, subsets and their size
    "n50_d8": ((20340, 20341), (50, 50), 8, 20, 30),
    "n300_d64": ((20342, 20343), (300, 200), 64, 50, 100),
    "n1200_d512": ((20344, 20345), (1200, 1500), 512, 100, 1000),
    "n60_d2048": ((20346, 20347), (60, 90), 2048, 10, 40),
}


def recorded_rows(case):
    seeds, rows, width, *_ = RECORDED[case]
    return [feature_rows(seed, n, width, shift) for seed, n, shift in zip(seeds, rows, (0.25, 0.35))]


@pytest.mark.parametrize("case", RECORDED)
def test_all_rows_give_the_recorded_distance(case):
    recorded = Golden("metrics_kid").outputs
    a, b = recorded_rows(case)
    mean, std = kernel_distance(a, b)
    assert mean == pytest.approx(recorded[f"{case}.kid_full"].item(), rel=1e-10) and std == 0
    fewest = min(len(a), len(b))
    equal, _ = kernel_distance(a[:fewest], b[:fewest])
    assert equal == pytest.approx(recorded[f"{case}.kid_equal"].item(), rel=1e-10)


@pytest.mark.parametrize("case", ["n50_d8", "n300_d64", "n60_d2048"])
def test_subsets_give_the_recorded_mean_and_deviation(case):
    recorded = Golden("metrics_kid").outputs
    *_, subsets, size = RECORDED[case]
    found = kernel_distance(*recorded_rows(case), subsets=subsets, subset_size=size, seed=2020)
    assert found[0] == pytest.approx(recorded[f"{case}.kid_subsets_mean"].item(), rel=1e-9)
    assert found[1] == pytest.approx(recorded[f"{case}.kid_subsets_std"].item(), rel=1e-9)
    assert found != kernel_distance(*recorded_rows(case), subsets=subsets, subset_size=size)


def test_blocks_do_not_change_the_distance(monkeypatch):
    a, b = recorded_rows("n50_d8")
    whole = kernel_distance(a, b)
    monkeypatch.setattr(kernel, "BLOCK", 7)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-12)


def test_equals_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))

    def k(u, v):
        return (sum(u * v) / 3 + 1) ** 3

    expected = (
        np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
        + np.mean([k(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
        - 2 * np.mean([k(u, v) for u in x for v in y])
    )
    assert kernel_distance(x, y)[0] == pytest.approx(expected, rel=1e-12)


def test_equals_torchmetrics():
    a, b = (x[:200] for x in recorded_rows("n300_d64"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.nn.Flatten()
        network.num_features = a.shape[1]
        reference = KernelInceptionDistance(feature=network, subsets=1, subset_size=200)
        reference.set_dtype(torch.float64)
        reference.update(a[:, None, None], real=True)
        reference.update(b[:, None, None], real=False)
    assert kernel_distance(a, b)[0] == pytest.approx(reference.compute()[0].item(), rel=1e-5)


def test_a_set_with_itself_lies_below_zero():
    """The unbiased form leaves the diagonal out within the sets, not across."""
    a, _ = recorded_rows("n50_d8")
    assert kernel_distance(a, a)[0] < 0


def test_too_few_rows_are_refused():
    x = np.random.rand(10, 3)
    with pytest.raises(ValueError, match="subset_size is 11, but there are only 10 real and 12 generated rows"):
        kernel_distance(x, np.random.rand(12, 3), subsets=2, subset_size=11)
    with pytest.raises(ValueError, match="subsets is None and subset_size 5; give both"):
        kernel_distance(x, x, subset_size=5)
    with pytest.raises(ValueError, match="generated features have shape .1, 3."):
        kernel_distance(x, x[:1])
    with pytest.raises(ValueError, match="real features are 3 wide but generated features are 2 wide"):
        kernel_distance(x, x[:, :2])
