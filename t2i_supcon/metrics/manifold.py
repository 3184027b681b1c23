"""How much two sets of feature vectors cover each other: precision and recall, density and
coverage.

Both take the union of balls around the rows of a set, each as wide as the distance to its k-th
nearest neighbour in the same set (the row itself left out), for the set's manifold. All values
depend on the numbers of rows.
"""

from collections.abc import Iterator

import numpy as np

from .arrays import Array, as_two_sets

BLOCK_ENTRIES = 2**24  # of the matrix of distances, computed at a time
# two squared distances closer than this share of the squared lengths are equal: duplicates have
# distance zero only up to rounding
ROUNDING = 1e-12


def precision_recall(real: Array, generated: Array, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., arXiv 1904.06991, eq. 1 and 2).

    A distance equal to the radius is inside, so a set compared with itself scores 1, however many
    duplicates it holds.

    Args:
        real, generated: (N, D) and (M, D), both of more than neighbours + 1 rows.

    Returns:
        precision: share of generated rows inside some real ball; recall: share of real rows inside
            some generated ball.

    Raises:
        ValueError: too few rows.
    """
    real, generated = _two_sets(real, generated, neighbours)
    precision = _balls_around(generated, real, _radii(real, neighbours)) > 0
    recall = _balls_around(real, generated, _radii(generated, neighbours)) > 0
    return float(precision.mean()), float(recall.mean())


def density_coverage(real: Array, generated: Array, neighbours: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al., arXiv 2002.09797, eq. 4 and 6).

    Args:
        real, generated: (N, D) and (M, D), both of more than neighbours + 1 rows.

    Returns:
        density: mean number of real balls that a generated row lies in, divided by `neighbours`; it
            may exceed 1. coverage: share of real rows with a generated row inside their ball.

    Raises:
        ValueError: too few rows.
    """
    real, generated = _two_sets(real, generated, neighbours)
    radii = _radii(real, neighbours)
    density = _balls_around(generated, real, radii) / neighbours
    covered = np.zeros(len(real), dtype=bool)
    for _, distances, rounding in _distances(generated, real):
        covered |= (distances <= radii + rounding).any(axis=0)
    return float(density.mean()), float(covered.mean())


def _two_sets(real: Array, generated: Array, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Centred on the real mean, which keeps the digits of distances that are small beside it."""
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; it must be at least 1")
    real, generated = as_two_sets(real, generated, ("real features", "generated features"))
    fewest = min(len(real), len(generated))
    if fewest < neighbours + 2:
        raise ValueError(
            f"there are {len(real)} real and {len(generated)} generated rows; {neighbours} neighbours need at least "
            f"{neighbours + 2} rows on both sides"
        )
    centre = real.mean(axis=0)
    return real - centre, generated - centre


def _distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Blocks of squared distances of rows of x to all rows of y: first row, (b, M) distances, and
    (b, M) what counts as rounding."""
    rows = max(1, BLOCK_ENTRIES // len(y))
    squares = np.square(y).sum(axis=1)
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        lengths = np.square(part).sum(axis=1)[:, None] + squares
        yield start, lengths - 2 * part @ y.T, ROUNDING * lengths


def _radii(x: np.ndarray, neighbours: int) -> np.ndarray:
    """(N,) squared distance of each row to its k-th nearest other row."""
    radii = np.empty(len(x))
    for start, distances, _ in _distances(x, x):
        own = np.arange(len(distances))
        distances[own, start + own] = np.inf
        radii[start : start + len(distances)] = np.partition(distances, neighbours - 1, axis=1)[:, neighbours - 1]
    return radii


def _balls_around(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """(N,) how many balls each point lies in."""
    return np.concatenate(
        [(distances <= radii + rounding).sum(axis=1) for _, distances, rounding in _distances(points, centres)]
    )
