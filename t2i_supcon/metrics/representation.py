"""How good an embedding space is, in numbers to watch rather than to train on (Wang and Isola,
arXiv 2005.10242)."""

import torch
from torch import Tensor


def alignment(embeddings: Tensor, positives: Tensor) -> Tensor:
    """Mean squared distance of positives (eq. 1 of their section 4.1, alpha = 2): 0 where they
    coincide, 4 where they are opposite.

    Args:
        embeddings: (N, D), normalised.
        positives: (N, N) bool or non-negative weights, by which pairs are averaged; the diagonal is
            ignored.

    Returns:
        Scalar, float32; zero where there is no positive.
    """
    weights = positives.float().masked_fill(torch.eye(len(positives), dtype=torch.bool, device=positives.device), 0)
    return (weights * _squared_distances(embeddings)).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)


def uniformity(embeddings: Tensor, t: float = 2.0) -> Tensor:
    """Logarithm of the mean of exp(-t |x - y|^2) over all pairs of different rows: 0 where all
    coincide, the lower the more evenly they spread.

    Args:
        embeddings: (N, D), normalised, N >= 2.
        t: sharpness of the kernel.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: fewer than two rows.
    """
    n = len(embeddings)
    if n < 2:
        raise ValueError(f"uniformity is defined over pairs of rows; there are {n} rows")
    kernel = (-t * _squared_distances(embeddings)).exp().fill_diagonal_(0)
    return (kernel.sum() / (n * (n - 1))).log()


def positives_per_anchor(positives: Tensor) -> Tensor:
    """Mean number of positives of a row, over all N rows of `positives` (N, N), bool or weights (a
    positive weight counts as one)."""
    return (positives > 0).float().fill_diagonal_(0).sum(dim=1).mean()


def _squared_distances(embeddings: Tensor) -> Tensor:
    """(N, N) of normalised rows: 2 - 2 x.y."""
    z = embeddings.float()
    return (2 - 2 * z @ z.T).clamp_min(0)
