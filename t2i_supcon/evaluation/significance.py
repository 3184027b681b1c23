"""How sure a difference is: over seeds, and over the pictures of one evaluation."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np

EXACT = 14  # pairs up to which all sign flips are tried; of more, a sample
SAMPLE = 20_000


def sign_flip_test(differences: Sequence[float]) -> float:
    """Two-sided p of a paired test: the share of all ways to flip the signs of the differences
    whose mean is at least as far from 0 (Fisher's randomisation test; Good, Permutation Tests,
    2000, section 3.2). It assumes nothing but that each pair could as well stand the other way
    round.

    Of n pairs p is at least 2 / 2^n: 0.25 of three. Above 14 pairs 20,000 flips are drawn, always
    the same.

    Args:
        differences: of the pairs, such as what each seed gains over its baseline.

    Returns:
        From 0 to 1; 1 where all differences are 0.

    Raises:
        ValueError: no differences, or some that are not finite.
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"differences are {list(differences)}; a paired test needs one or more finite numbers")
    if len(values) <= EXACT:
        flips = np.array(list(product((1.0, -1.0), repeat=len(values))))
    else:
        flips = np.random.default_rng(0).choice([1.0, -1.0], size=(SAMPLE, len(values)))
        flips[0] = 1.0  # the one that was seen
    means = np.abs(flips @ values)
    return float(np.mean(means >= abs(values.sum()) * (1 - 1e-9)))


def bootstrap_errors(
    measure: Callable[[np.ndarray], Mapping[str, float]], count: int, resamples: int
) -> dict[str, float]:
    """Standard error of numbers of pictures: their standard deviation over sets of as many pictures
    drawn with replacement (Efron, 1979).

    The drawn sets hold some pictures twice, which moves a Fréchet distance as fewer pictures would:
    take value ± 1.96 errors as interval, not percentiles of the drawn sets.

    Args:
        measure: numbers by name of the pictures of these indices (N,).
        count: pictures there are.
        resamples: sets to draw, at least 2.

    Raises:
        ValueError: fewer than 2 sets.
    """
    if resamples < 2:
        raise ValueError(f"bootstrap is {resamples}; a standard error needs at least 2 sets of pictures")
    random = np.random.default_rng(0)
    drawn = [measure(random.integers(0, count, count)) for _ in range(resamples)]
    return {name: float(np.std([one[name] for one in drawn], ddof=1)) for name in drawn[0]}
