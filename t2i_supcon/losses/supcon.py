"""Supervised contrastive loss (Khosla et al., arXiv 2004.11362, eq. 2), applied to images and texts
as in Liu et al., arXiv 2412.03957."""

from typing import Literal

import torch
from torch import Tensor

from .precision import full_precision


@full_precision
def positive_mask(labels: Tensor, overlap: Literal["any", "jaccard"] = "any") -> Tensor:
    """Who is whose positive: rows that share a label, never a row with itself.

    Args:
        labels: (N,) class ids, where a negative id means unlabelled and shares nothing; or (N, C)
            multi-hot.
        overlap: for multi-hot rows, "any" shared category makes a full positive, "jaccard" weighs
            each positive by |intersection| / |union| of the two label sets.

    Returns:
        (N, N), bool or, for "jaccard", float32 weights.

    Raises:
        ValueError: labels of another rank, or "jaccard" for class ids.
    """
    if labels.dim() == 1:
        if overlap != "any":
            raise ValueError('overlap="jaccard" needs multi-hot labels of shape (N, C)')
        mask = (labels[:, None] == labels[None, :]) & (labels >= 0)[:, None]
    elif labels.dim() == 2:
        sets = labels if labels.is_floating_point() else labels.float()
        shared = sets @ sets.T  # (N, N)
        mask = shared > 0
        if overlap == "jaccard":
            sizes = sets.sum(dim=1)
            mask = shared / (sizes[:, None] + sizes[None, :] - shared).clamp_min(1)
    else:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; expected (N,) ids or (N, C) multi-hot")
    return mask.masked_fill(torch.eye(len(labels), dtype=torch.bool, device=labels.device), 0)


@full_precision
def supcon_loss(embeddings: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss over all rows that have a positive.

    L = 1/|A'| sum_{a in A'} -1/|P(a)| sum_{p in P(a)} log( exp(z_a.z_p / t) / sum_{n != a}
    exp(z_a.z_n / t) ); weighted positives replace 1/|P(a)| by their share of a's total weight.

    Args:
        embeddings: (N, D), used as given: normalise them first.
        positives: (N, N) bool or non-negative weights; the diagonal is ignored.
        temperature: t > 0.

    Returns:
        Scalar; zero (with zero gradient) where no row has a positive.

    Raises:
        ValueError: shapes that do not fit, or a temperature that is not positive.
    """
    n = len(embeddings)
    if positives.shape != (n, n):
        raise ValueError(f"positives have shape {tuple(positives.shape)}; {n} embeddings need ({n}, {n})")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be positive")
    itself = torch.eye(n, dtype=torch.bool, device=embeddings.device)
    weights = positives.to(embeddings.dtype).masked_fill(itself, 0)  # (N, N)
    logits = (embeddings @ embeddings.T / temperature).masked_fill(itself, float("-inf"))
    log_prob = (logits - logits.logsumexp(dim=1, keepdim=True)).masked_fill(itself, 0)
    total = weights.sum(dim=1)  # (N,)
    anchors = total > 0
    per_anchor = -(weights * log_prob).sum(dim=1) / total.where(anchors, torch.ones_like(total))
    return per_anchor.sum() / anchors.sum().clamp_min(1)
