"""Statistics of feature vectors and the distances between them, in float64 numpy."""

from typing import NamedTuple

import numpy as np


class FeatureStatistics(NamedTuple):
    """Mean (D,), covariance (D, D) and number of the vectors they describe."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int


def feature_statistics(features: np.ndarray) -> FeatureStatistics:
    """Statistics of (N, D) features.

    Raises:
        ValueError: fewer than two vectors, or values that are not finite.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features have shape {features.shape}; expected (N, D) with N of at least 2")
    if not np.isfinite(features).all():
        raise ValueError("features hold NaN or infinity")
    return FeatureStatistics(
        features.mean(axis=0), np.cov(features, rowvar=False).reshape(features.shape[1], -1), len(features)
    )


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Squared Frechet distance of two Gaussians: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))
    (Heusel et al., arXiv 1706.08500, eq. 6).

    The trace of the root equals the sum of square roots of the eigenvalues of C_a^(1/2) C_b
    C_a^(1/2), a symmetric matrix.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(values.clip(min=0))  # C_a = root root^T
    eigenvalues = np.linalg.eigvalsh(root.T @ b.covariance @ root)
    trace = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(eigenvalues.clip(min=0)).sum()
    return float(np.square(a.mean - b.mean).sum() + trace)
