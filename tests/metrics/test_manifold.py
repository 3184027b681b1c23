"""Precision, recall, density and coverage against recordings, prdc and sets whose values are
known."""

import contextlib
import io

import numpy as np
import pytest
from golden.weights import Golden, feature_rows
from prdc import compute_prdc

from t2i_supcon.metrics import density_coverage, manifold, precision_recall

RECORDED = {  # name: seeds, rows and width
    "n50_d8": ((20540, 20541), (50, 60), 8),
    "n300_d64": ((20542, 20543), (300, 250), 64),
    "n200_d512": ((20544, 20545), (200, 200), 512),
    "n1500_d16": ((20546, 20547), (1500, 1200), 16),
}


def recorded_rows(case):
    seeds, rows, width = RECORDED[case]
    return [feature_rows(seed, n, width, shift) for seed, n, shift in zip(seeds, rows, (0.25, 0.45))]


@pytest.mark.parametrize("neighbours", [3, 5])
@pytest.mark.parametrize("case", RECORDED)
def test_values_equal_the_recorded_ones(case, neighbours):
    recorded = Golden("metrics_prdc").outputs
    found = precision_recall(*recorded_rows(case), neighbours) + density_coverage(*recorded_rows(case), neighbours)
    names = ("precision", "recall", "density", "coverage")
    assert found == pytest.approx([recorded[f"{case}.k{neighbours}.{name}"].item() for name in names], rel=1e-12)


def test_values_equal_prdcs():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(80, 5)), 0.8 * rng.normal(size=(70, 5)) + 0.3
    with contextlib.redirect_stdout(io.StringIO()):
        expected = compute_prdc(real, generated, nearest_k=4)
    assert precision_recall(real, generated, 4) == pytest.approx((expected["precision"], expected["recall"]))
    assert density_coverage(real, generated, 4) == pytest.approx((expected["density"], expected["coverage"]))


def test_blocks_do_not_change_the_values(monkeypatch):
    real, generated = recorded_rows("n50_d8")
    whole = precision_recall(real, generated), density_coverage(real, generated)
    monkeypatch.setattr(manifold, "BLOCK_ENTRIES", 333)
    assert (precision_recall(real, generated), density_coverage(real, generated)) == whole


def test_a_distance_equal_to_the_radius_is_inside():
    golden = Golden("metrics_prdc")
    real, generated = golden.inputs["ties.real"], golden.inputs["ties.fake"]
    recorded = golden.outputs["ties.k1.inclusive_precision_recall"].tolist()
    assert precision_recall(real, generated, neighbours=1) == pytest.approx(recorded)
    assert recorded != golden.outputs["ties.k1.prdc_strict"][:2].tolist()


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_duplicates_leave_a_set_inside_itself(offset):
    """Radii are 0 there, and rounding must not put a row outside its own ball."""
    x = np.repeat(np.random.default_rng(1).normal(size=(40, 30)) + offset, 5, axis=0)
    assert precision_recall(x, x) == (1, 1)
    density, coverage = density_coverage(x, x, neighbours=3)
    assert (density, coverage) == (pytest.approx(5 / 3), 1)  # each row lies in the balls of its five copies alone


def test_far_sets_do_not_cover_each_other():
    x = np.random.default_rng(2).normal(size=(30, 4))
    assert precision_recall(x, x + 100) == (0, 0) and density_coverage(x, x + 100) == (0, 0)


def test_collapse_is_precise_and_recalls_nothing():
    real = np.random.default_rng(3).normal(size=(200, 4))
    collapsed = np.tile(real[0], (20, 1))
    assert precision_recall(real, collapsed) == (1, 1 / 200)  # the one row that is repeated


def test_too_few_rows_are_refused():
    x = np.random.rand(9, 2)
    with pytest.raises(ValueError, match="9 real and 4 generated rows; 3 neighbours need at least 5 rows"):
        precision_recall(x, x[:4])
    with pytest.raises(ValueError, match="5 neighbours need at least 7 rows"):
        density_coverage(x[:6], x)
    with pytest.raises(ValueError, match="neighbours is 0"):
        density_coverage(x, x, 0)
