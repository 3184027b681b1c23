"""Kernel distance of two sets of feature vectors (KID)."""

import numpy as np

from .arrays import Array, as_two_sets

BLOCK = 1024  # rows of the kernel's matrix computed at a time


def kernel_distance(
    real: Array, generated: Array, subsets: int | None = None, subset_size: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3 (Binkowski et al.,
    arXiv 1801.01401, section 4); it may be negative.

    By default all rows of both sets count and nothing is drawn. With `subsets` it is the mean over
    as many draws of `subset_size` rows without replacement from each set, real rows first, by
    numpy's `RandomState(seed)`: torch-fidelity's draws for seed 2020 and its order of arguments.

    Args:
        real, generated: (N, D) and (M, D).
        subsets, subset_size: both or neither.

    Returns:
        mean and population standard deviation over the draws; the deviation is 0 without draws.

    Raises:
        ValueError: fewer than two rows, or fewer than `subset_size`.
    """
    real, generated = as_two_sets(real, generated, ("real features", "generated features"))
    if subsets is None and subset_size is None:
        return _discrepancy(real, generated), 0.0
    if subsets is None or subset_size is None or subsets < 1 or subset_size < 2:
        raise ValueError(
            f"subsets is {subsets} and subset_size {subset_size}; give both, at least 1 draw of at least 2 rows"
        )
    fewest = min(len(real), len(generated))
    if fewest < subset_size:
        raise ValueError(
            f"subset_size is {subset_size}, but there are only {len(real)} real and {len(generated)} generated rows; "
            f"take at most {fewest}, or leave both arguments out to count all rows"
        )
    random = np.random.RandomState(seed)
    values = [
        _discrepancy(
            real[random.choice(len(real), subset_size, replace=False)],
            generated[random.choice(len(generated), subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    n, m = len(x), len(y)
    within = _kernel_sum(x, x, diagonal=False) / (n * (n - 1)) + _kernel_sum(y, y, diagonal=False) / (m * (m - 1))
    return float(within - 2 * _kernel_sum(x, y) / (n * m))


def _kernel_sum(x: np.ndarray, y: np.ndarray, diagonal: bool = True) -> float:
    """Sum of the kernel over all pairs of rows, block by block."""
    total = 0.0
    for start in range(0, len(x), BLOCK):
        kernel = x[start : start + BLOCK] @ y.T / x.shape[1] + 1
        kernel *= kernel * kernel  # the cube, far faster than a power
        if not diagonal:
            kernel[np.arange(len(kernel)), start + np.arange(len(kernel))] = 0
        total += kernel.sum()
    return total
