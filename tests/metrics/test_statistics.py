"""The Frechet distance against closed forms and scipy's matrix root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from t2i_supcon.metrics.statistics import FeatureStatistics, feature_statistics, frechet_distance


def gaussian(mean, covariance):
    return FeatureStatistics(np.asarray(mean, float), np.asarray(covariance, float), 10)


def test_statistics_equal_numpys():
    x = np.random.default_rng(0).normal(size=(50, 4))
    statistics = feature_statistics(x.astype(np.float32))
    assert np.allclose(statistics.mean, x.mean(0), atol=1e-6) and np.allclose(
        statistics.covariance, np.cov(x.T), atol=1e-6
    )


def test_distance_of_diagonal_gaussians_is_known():
    # |m|^2 + sum (s_a - s_b)^2
    assert frechet_distance(gaussian([0, 0], np.diag([4, 9])), gaussian([3, 4], np.diag([1, 25]))) == pytest.approx(
        25 + 1 + 4
    )


@pytest.mark.parametrize("rank", [6, 3])
def test_distance_equals_the_matrix_root(rank):
    rng = np.random.default_rng(1)
    a, b = (feature_statistics(rng.normal(size=(40, rank)) @ rng.normal(size=(rank, 6))) for _ in range(2))
    root = sqrtm(a.covariance @ b.covariance + 1e-12 * np.eye(6)).real
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


def test_distance_to_itself_is_zero():
    a = feature_statistics(np.random.default_rng(2).normal(size=(30, 5)))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("bad", [np.zeros((1, 3)), np.zeros(3), np.full((4, 2), np.nan)])
def test_bad_features_are_refused(bad):
    with pytest.raises(ValueError, match="features"):
        feature_statistics(bad)
